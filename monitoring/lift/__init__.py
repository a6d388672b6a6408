"""Lift: how much better an arm does than the control, and how sure that is."""
