"""Explicit reasoning: agents distil what the world knows about a product; an encoder turns it into vectors and ids."""
