"""`python -m benchmarks.behavior`: every figure of latent reasoning; writes benchmarks/results/behavior.json.

Parts: `quality` (hidden behaviours of two real logs, against the peers), `ranker` (what a ranker gains), `shop` (true
purchases elsewhere), `speed` (users a second, growth with the catalogue), `memory` (growth with the users),
`secondary` (behaviours hidden by time). Each writes its rows at its end. `--quick`: fewer data
sets and models, a few minutes.
"""

import sys
from importlib import import_module

from benchmarks.command import read_command
from benchmarks.results import write_rows

PARTS = ("quality", "shop", "ranker", "speed", "memory", "secondary")


def main() -> int:
    """Measures the chosen parts."""
    parts, quick = read_command(__doc__, PARTS, quick="fewer data sets, models and seeds; writes nothing")
    for part in parts:
        rows = import_module(f"benchmarks.behavior_{part}").measure(quick=quick)
        print("\n".join(f"{row.id}: {row.value:.4f} +- {row.sd or 0:.4f}" for row in rows), flush=True)
        if not quick:
            print(f"wrote {write_rows('behavior', rows)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
