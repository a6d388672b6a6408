"""The `simulate_shop` component."""
