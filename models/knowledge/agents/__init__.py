"""The agents: roles with typed inputs and outputs, their versioned prompts, and the pass of items through them."""
