"""The ranker: ranking lists, the network that reads a user by what items mean, its export and its
measurement."""
