"""A small teacher that answers first, and a large one for what the small one is not sure of."""
