"""`python -m benchmarks.serving`: every figure of the serving side, with real Redis, Triton and gateway on one machine.

Parts: `latency` (one request beside its floor and the plain way), `throughput` (saturation, percentiles under open-loop
load, memory over a soak), `materialize` (100,000 vectors into Redis), `faults` (each part killed and started again
under load), `fuzz` (hostile requests; needs `scripts/setup.sh fuzz`), `switch` (deployments and rollbacks under load),
`degraded` (what each missing part costs in NDCG@10; runs the pipeline of configs/shop.yaml first). Each writes its
rows into benchmarks/results/serving.json at its end. `--quick`: smaller and shorter, a few minutes; writes nothing,
compares with the baselines named `quick....` and exits 1 on a regression.
"""

import os
import sys
from importlib import import_module

from benchmarks.baselines import read_baselines, regressions
from benchmarks.command import read_command
from benchmarks.results import ROOT, Row, write_rows

PARTS = ("latency", "throughput", "materialize", "faults", "fuzz", "switch", "degraded")


def main() -> int:
    """Measures the chosen parts."""
    parts, quick = read_command(__doc__, PARTS, quick="smaller and shorter; compares with the baselines")
    os.chdir(ROOT.parent)  # the configurations' paths are relative to the repository
    worse = []
    for part in parts:
        rows: list[Row] = list(import_module(f"benchmarks.serving_{part}").measure(quick=quick))
        if quick:
            rows = [row.model_copy(update={"id": f"quick.{row.id}"}) for row in rows]
            worse += regressions(rows, read_baselines())
        else:
            print(f"wrote {write_rows('serving', rows)}")
        print("\n".join(f"{row.id}: {row.value:.4g} {row.unit}" for row in rows), flush=True)
    print("\n".join(worse))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
