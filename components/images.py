"""The container image that components run in: one per environment."""

MAIN_IMAGE = "reaseq/main:0.1.0"
"""Image of the `main` environment; `reaseq compile --image` puts a digest-pinned one in its place."""
