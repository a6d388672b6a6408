"""A small language model learns to answer as a teacher did: LLM distillation in the literal sense."""
