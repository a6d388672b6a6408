"""Ranking lists: how they are made from the log, where negatives are drawn, and how lists become integers."""
