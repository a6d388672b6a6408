"""What the ranker's graph takes: the table of its inputs, their encoding, the feeds, and the spec that
serving reads."""
