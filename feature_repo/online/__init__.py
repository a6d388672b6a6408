"""The online store: filled from the offline tables, read and updated while serving."""
