"""Latent reasoning: a masked-diffusion model of behaviour sequences that infers what the log does not hold."""
