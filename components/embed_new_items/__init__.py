"""The `embed_new_items` component."""
