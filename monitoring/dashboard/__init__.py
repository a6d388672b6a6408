"""The dashboard: decision, lift, drift, quality and service by day, in Evidently's UI and as one page."""
