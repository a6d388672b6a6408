"""Features of users and items: as of any time for training, and now for serving."""
