"""One question an item: a model writes compact knowledge, and rules stand in for the other agents."""
