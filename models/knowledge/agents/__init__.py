"""The agents: their roles, versioned prompts, and how a product passes through the team."""
