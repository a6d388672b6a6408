"""The `collect_traffic` component."""
