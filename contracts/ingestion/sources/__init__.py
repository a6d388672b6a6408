"""The files of a user: which count, how they are written, and their rows in batches."""
