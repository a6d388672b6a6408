"""Evaluation: the exported graph is measured on test lists, and a stated rule decides on its promotion."""
