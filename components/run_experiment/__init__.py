"""The `run_experiment` component."""
