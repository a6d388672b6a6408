"""Answers recorded elsewhere: agents' answers as they were given, or knowledge of items in a compact form."""
