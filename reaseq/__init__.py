"""Top floor: the command line, one verb a file."""
