"""Latent reasoning: hidden behaviors found, speed, memory."""
