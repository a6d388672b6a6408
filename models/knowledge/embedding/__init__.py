"""The embedding space: items as vectors, and the semantic ids of these. Start at `embed_items.py`."""
