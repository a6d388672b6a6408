"""The gateway: HTTP in front, and behind it what a ranking request goes through."""
