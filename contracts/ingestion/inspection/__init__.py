"""Looks at files that nobody described yet, and writes a configuration that reads them."""
