"""The `distill_teacher` component."""
