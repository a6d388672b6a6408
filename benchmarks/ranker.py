"""`python -m benchmarks.ranker`: every figure of the ranker; writes benchmarks/results/ranker.json.

Parts: `ladder` (what each enhancement adds, on two real logs), `peers` (other libraries on the same rows; needs
`scripts/setup.sh ranker-peers`), `cost` (time and memory as rows grow), `score` (one request), `long` (what searching
a long history finds), `shop` (calibration and the order head on impressions). Each writes its rows at its end.
`--quick`: the embedded shop alone, one seed, a few minutes; writes nothing, compares with the baselines named
`quick....` and exits 1 on a regression.
"""

import sys

from benchmarks.command import measure_parts, read_command

PARTS = ("score", "cost", "long", "shop", "peers", "ladder")


def main() -> int:
    """Measures the chosen parts."""
    parts, quick = read_command(__doc__, PARTS, quick="the embedded shop, one seed; compares with the baselines")
    return measure_parts("ranker", parts, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
