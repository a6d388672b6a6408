"""Sequences in, confidences and lists out: the terms of the score, for whole catalogues and for huge ones."""
