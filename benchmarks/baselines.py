"""`python -m benchmarks.baselines`: compares the result files with `baselines.json` and exits 1 on a regression.

`baselines.json` maps an id to {value, tolerance}; the tolerance is relative. Ids that were not measured are not
compared.
"""

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from benchmarks.results import RESULTS, ROOT, Row, read_rows

BASELINES = ROOT / "baselines.json"


class Baseline(BaseModel):
    """What a figure must keep."""

    value: float
    tolerance: float
    """Relative: 0.1 lets the figure be 10 % worse."""


def regressions(rows: list[Row], baselines: dict[str, Baseline]) -> list[str]:
    """One line per figure that is worse than its baseline allows."""
    found = []
    for row in rows:
        baseline = baselines.get(row.id)
        if baseline is None:
            continue
        sign = 1 if row.better == "higher" else -1
        limit = baseline.value - sign * baseline.tolerance * abs(baseline.value)
        if sign * (row.value - limit) < 0:
            found.append(f"{row.id}: {row.value:.4g} {row.unit}, limit {limit:.4g} (baseline {baseline.value:.4g})")
    return found


def read_baselines() -> dict[str, Baseline]:
    """The committed baselines by id."""
    return {key: Baseline.model_validate(value) for key, value in json.loads(BASELINES.read_text()).items()}


def main(results: Path = RESULTS) -> int:
    """Compares every result file."""
    baselines = read_baselines()
    rows = [row for path in sorted(results.glob("*.json")) for row in read_rows(path)]
    worse = regressions(rows, baselines)
    compared = sum(row.id in baselines for row in rows)
    print(f"{compared} figure(s) compared with their baselines, {len(worse)} worse")
    print("\n".join(worse))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(*(Path(argument) for argument in sys.argv[1:2])))
