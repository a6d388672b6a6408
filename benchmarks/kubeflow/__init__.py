"""The path through a cluster, as far as one machine can walk it."""
