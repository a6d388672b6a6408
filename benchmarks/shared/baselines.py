"""`python -m benchmarks.shared.baselines` compares the result files with `baselines.json`.

It exits 1 on a regression. `baselines.json` maps an id to {value, tolerance}; the tolerance is relative.
Ids that were not measured are not compared.
"""

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from benchmarks.shared.results import BASELINES, RESULTS, Row, read_rows


class Baseline(BaseModel):
    """What a figure must keep."""

    value: float
    tolerance: float
    """Relative: 0.1 lets the figure be 10 % worse."""


def find_regressions(rows: list[Row], baselines: dict[str, Baseline]) -> dict[str, str]:
    """One line, by id, per figure that is worse than its baseline allows and than its own spread explains.

    A machine that other work disturbs shows it in the spread of its repetitions, and must not fail a change.
    """
    regressions: dict[str, str] = {}
    for row in rows:
        baseline = baselines.get(row.id)
        if baseline is None:
            continue
        better_sign = 1 if row.better == "higher" else -1
        worst_allowed = baseline.value - better_sign * baseline.tolerance * abs(baseline.value)
        if better_sign * (row.value - worst_allowed) < -(row.sd or 0.0):
            regressions[row.id] = (
                f"{row.id}: {row.value:.4g} {row.unit}, "
                f"limit {worst_allowed:.4g} (baseline {baseline.value:.4g})"
            )
    return regressions


def read_baselines() -> dict[str, Baseline]:
    """The committed baselines by id."""
    return {
        row_id: Baseline.model_validate(baseline)
        for row_id, baseline in json.loads(BASELINES.read_text()).items()
    }


def compare_results(results: Path = RESULTS) -> int:
    """Compares every result file."""
    baselines = read_baselines()
    rows = [row for path in sorted(results.glob("*.json")) for row in read_rows(path)]
    regressions = find_regressions(rows, baselines)
    num_compared = sum(row.id in baselines for row in rows)
    print(f"{num_compared} figure(s) compared with their baselines, {len(regressions)} worse")
    print("\n".join(regressions.values()))
    return 1 if regressions else 0


if __name__ == "__main__":
    sys.exit(compare_results(*(Path(argument) for argument in sys.argv[1:2])))
