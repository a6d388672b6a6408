"""Serving on real servers."""
