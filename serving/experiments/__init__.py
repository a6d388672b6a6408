"""Experiments: who is in which arm, canaries, and the champion that the others must beat."""
