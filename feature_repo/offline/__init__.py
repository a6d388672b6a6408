"""Feature tables, and their point-in-time join."""
