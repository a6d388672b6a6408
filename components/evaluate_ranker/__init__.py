"""The `evaluate_ranker` component."""
