"""The embedded shop: a synthetic catalogue, users with needs on and off the platform, and A/B traffic."""
