"""The `digest_sources` component."""
