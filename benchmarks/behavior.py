"""`python -m benchmarks.behavior`: every figure of latent reasoning; writes benchmarks/results/behavior.json.

Parts: `quality` (hidden behaviours of two real logs, against the peers), `ranker` (what a ranker gains), `shop` (true
purchases elsewhere), `speed` (users a second, growth with the catalogue), `memory` (growth with the users),
`secondary` (behaviours hidden by time). Each writes its rows at its end. `--quick`: fewer data
sets and models, a few minutes.
"""

import argparse
import sys
from importlib import import_module

from benchmarks.results import write_rows

PARTS = ("quality", "shop", "ranker", "speed", "memory", "secondary")


def main() -> int:
    """Measures the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer data sets, models and seeds; writes nothing")
    chosen = parser.parse_args()
    for part in chosen.parts or PARTS:
        if part not in PARTS:
            parser.error(f"no part '{part}'; there are {', '.join(PARTS)}")
        rows = import_module(f"benchmarks.behavior_{part}").measure(quick=chosen.quick)
        print("\n".join(f"{row.id}: {row.value:.4f} +- {row.sd or 0:.4f}" for row in rows), flush=True)
        if not chosen.quick:
            print(f"wrote {write_rows('behavior', rows)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
