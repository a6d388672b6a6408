"""The served log: what the gateway logged becomes data to learn from, day by day."""
