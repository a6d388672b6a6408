"""The `report_lift` component."""
