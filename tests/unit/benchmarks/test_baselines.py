"""A figure is a regression only when it is worse than its tolerance, in the direction that counts."""

import pytest

from benchmarks.baselines import Baseline, regressions
from benchmarks.results import make_row, read_rows, write_rows


def _row(row_id, value, better):
    return make_row(row_id, [value], unit="s", better=better, data="none", command="test")


@pytest.mark.parametrize(
    ("better", "value", "worse"),
    [("higher", 0.91, False), ("higher", 0.89, True), ("lower", 1.09, False), ("lower", 1.11, True)],
)
def test_the_tolerance_is_relative_and_one_sided(better, value, worse):
    baselines = {"a": Baseline(value=1.0, tolerance=0.1)}

    assert bool(regressions([_row("a", value, better)], baselines)) is worse


def test_a_figure_without_baseline_is_not_compared():
    assert regressions([_row("b", 0.0, "higher")], {}) == []


def test_writing_keeps_figures_that_were_not_measured_again(tmp_path):
    write_rows("x", [_row("a", 1.0, "higher"), _row("b", 2.0, "higher")], results=tmp_path)
    path = write_rows("x", [_row("b", 3.0, "higher")], results=tmp_path)

    assert {row.id: row.value for row in read_rows(path)} == {"a": 1.0, "b": 3.0}
