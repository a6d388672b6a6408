"""Deployment: publishes rankers, switches the routes, and starts the servers on one machine."""
