"""What runs ReaSeq outside a checkout; only `reachability` is code."""
