"""The `report_drift` component."""
