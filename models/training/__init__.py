"""The training kit: the loop, checkpoints, learning rates and worker processes that all models share."""
