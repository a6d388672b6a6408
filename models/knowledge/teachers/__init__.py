"""Teachers: whoever answers the agents' requests."""
