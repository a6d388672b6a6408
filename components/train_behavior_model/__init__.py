"""The `train_behavior_model` component."""
