"""The `merge_inferred` component."""
