"""The `find_deployment` component."""
