"""The container images by environment: the one place that names them.

`infra/images` builds them under these names, `infra/k8s` runs them, and a test holds all three together.
"""

VERSION = "0.1.0"
"""Version of the images; that of the package."""
MAIN_IMAGE = f"reaseq-main:{VERSION}"
"""Image of the `main` environment; `reaseq compile --image` puts a digest-pinned one in its place."""
SERVE_IMAGE = f"reaseq-serve:{VERSION}"
"""Image of the `serve` environment: the gateway, without torch."""
TRITON_IMAGE = f"reaseq-triton:{VERSION}"
"""Image of the `triton` environment."""
VLLM_IMAGE = f"reaseq-vllm:{VERSION}"
"""Image of the `vllm` environment; `reaseq compile --teacher-image` takes its pinned name."""
