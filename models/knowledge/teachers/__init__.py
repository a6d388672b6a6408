"""Teachers: whatever answers the agents' requests."""
