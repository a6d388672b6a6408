"""The `publish_dashboard` component."""
