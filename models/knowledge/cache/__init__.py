"""What was answered and finished before, kept by content and shared by all runs and shards."""
