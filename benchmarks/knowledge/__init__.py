"""Explicit reasoning: what knowledge is worth, and what distillation costs."""
