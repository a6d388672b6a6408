"""What all benchmarks use: rows, baselines, data sets, generated tables."""
