"""The `distill_knowledge` component."""
