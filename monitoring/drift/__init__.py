"""Drift: the flat table of what the ranker saw and said, and the comparison of two windows of it."""
