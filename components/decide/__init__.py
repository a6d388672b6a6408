"""The `decide` component."""
