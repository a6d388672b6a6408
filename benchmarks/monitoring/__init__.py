"""Lift, plan and decision, measured on experiments whose truth is known."""
