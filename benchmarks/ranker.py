"""`python -m benchmarks.ranker`: every figure of the ranker; writes benchmarks/results/ranker.json.

Parts: `ladder` (what each enhancement adds, on two real logs), `peers` (other libraries on the same rows; needs
`scripts/setup.sh ranker-peers`), `cost` (time and memory as rows grow), `score` (one request), `long` (what searching
a long history finds), `shop` (calibration and the order head on impressions). Each writes its rows at its end.
`--quick`: the embedded shop alone, one seed, a few minutes; writes nothing, compares with the baselines named
`quick....` and exits 1 on a regression.
"""

import os
import sys
from importlib import import_module

from benchmarks.baselines import read_baselines, regressions
from benchmarks.command import read_command
from benchmarks.results import ROOT, Row, write_rows

PARTS = ("score", "cost", "long", "shop", "peers", "ladder")


def main() -> int:
    """Measures the chosen parts."""
    parts, quick = read_command(__doc__, PARTS, quick="the embedded shop, one seed; compares with the baselines")
    os.chdir(ROOT.parent)  # the configurations' paths are relative to the repository
    worse = []
    for part in parts:
        rows: list[Row] = list(import_module(f"benchmarks.ranker_{part}").measure(quick=quick))
        if quick:
            rows = [row.model_copy(update={"id": f"quick.{row.id}"}) for row in rows]
            worse += regressions(rows, read_baselines())
        else:
            print(f"wrote {write_rows('ranker', rows)}")
        print("\n".join(f"{row.id}: {row.value:.4f} +- {row.sd or 0:.4f}" for row in rows), flush=True)
    print("\n".join(worse))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
