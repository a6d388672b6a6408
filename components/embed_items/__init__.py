"""The `embed_items` component."""
