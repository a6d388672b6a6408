"""Triton: its model repository, its client and, on one machine, the server itself."""
