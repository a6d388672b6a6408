"""Containerized KFP components: thin wrappers, one folder each, over the rooms below."""
