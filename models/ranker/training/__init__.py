"""From ranking lists to a trained ranker."""
