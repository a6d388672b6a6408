"""What the shop needs to live on after its log: a reserve, shared luck, late orders and returns."""
