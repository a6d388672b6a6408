"""Online serving: the gateway, its model server, experiment arms, deployment and the event log."""
