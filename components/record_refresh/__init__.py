"""The `record_refresh` component."""
