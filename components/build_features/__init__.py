"""The `build_features` component."""
