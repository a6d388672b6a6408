"""Latent reasoning: a masked-diffusion model of behavior sequences that infers what the log does not hold."""
