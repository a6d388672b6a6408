"""The `change_routes` component."""
