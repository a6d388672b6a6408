"""`python -m benchmarks.serving`: every figure of the serving side, with real Redis, Triton and gateway on one machine.

Parts: `latency` (one request beside its floor and the plain way), `throughput` (saturation, percentiles under open-loop
load, memory over a soak), `materialize` (100,000 vectors into Redis), `faults` (each part killed and started again
under load), `fuzz` (hostile requests; needs `scripts/setup.sh fuzz`), `switch` (deployments and rollbacks under load),
`degraded` (what each missing part costs in NDCG@10; runs the pipeline of configs/shop.yaml first). Each writes its
rows into benchmarks/results/serving.json at its end. `--quick`: smaller and shorter, a few minutes; writes nothing,
compares with the baselines named `quick....` and exits 1 on a regression.
"""

import sys

from benchmarks.command import measure_parts, read_command

PARTS = ("latency", "throughput", "materialize", "faults", "fuzz", "switch", "degraded")


def main() -> int:
    """Measures the chosen parts."""
    parts, quick = read_command(__doc__, PARTS, quick="smaller and shorter; compares with the baselines")
    return measure_parts("serving", parts, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
