"""The `merge_knowledge` component."""
