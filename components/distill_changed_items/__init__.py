"""The `distill_changed_items` component."""
