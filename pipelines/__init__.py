"""The DAGs, the run configuration, and how they are compiled, run, submitted and scheduled."""
