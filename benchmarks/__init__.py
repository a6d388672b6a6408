"""Reproducible quality and speed figures, with their committed baselines."""
