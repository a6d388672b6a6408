"""Ground floor: the tables and artifacts that flow between steps."""
