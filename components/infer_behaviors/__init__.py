"""The `infer_behaviors` component."""
