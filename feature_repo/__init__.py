"""Feast features: what is known of users and items, for training as of any time and for serving now."""
