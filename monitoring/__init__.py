"""Drift, A/B lift, the Evidently workspace that shows both, and the decision they lead to."""
