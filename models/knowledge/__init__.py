"""Explicit reasoning: agents distill what the world knows of a product, and an encoder embeds it."""
