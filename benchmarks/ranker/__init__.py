"""The ranker: its ladder, its peers, its cost."""
