"""The `post_outcome` component."""
