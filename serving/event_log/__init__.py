"""The event log: what was shown and what users did, in local files first and in a sink behind them."""
