"""The denoising transformer, the blocks it is made of, and the noise it learns to undo."""
