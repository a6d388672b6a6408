"""A figure is a regression only when it is worse than its tolerance, in the direction that counts."""

import pytest

import benchmarks.__main__ as runner
from benchmarks.shared.baselines import Baseline, find_regressions
from benchmarks.shared.results import make_row, read_rows, write_rows


def _row(row_id, value, better):
    return make_row(row_id, [value], unit="s", better=better, data="none", command="test")


@pytest.mark.parametrize(
    ("better", "value", "worse"),
    [("higher", 0.91, False), ("higher", 0.89, True), ("lower", 1.09, False), ("lower", 1.11, True)],
)
def test_the_tolerance_is_relative_and_one_sided(better, value, worse):
    baselines = {"a": Baseline(value=1.0, tolerance=0.1)}

    assert bool(find_regressions([_row("a", value, better)], baselines)) is worse


def test_a_figure_without_baseline_is_not_compared():
    assert find_regressions([_row("b", 0.0, "higher")], {}) == {}


def test_writing_keeps_figures_that_were_not_measured_again(tmp_path):
    write_rows("x", [_row("a", 1.0, "higher"), _row("b", 2.0, "higher")], results=tmp_path)
    path = write_rows("x", [_row("b", 3.0, "higher")], results=tmp_path)

    assert {row.id: row.value for row in read_rows(path)} == {"a": 1.0, "b": 3.0}


@pytest.mark.parametrize(
    ("measurements", "num_measured", "worse"),
    [([1.0], 1, False), ([0.5, 1.0], 2, False), ([0.5, 0.6], 2, True)],
)
def test_a_quick_figure_is_worse_only_where_two_measurements_agree(
    monkeypatch, measurements, num_measured, worse
):
    monkeypatch.setattr(runner, "read_baselines", lambda: {"quick.a": Baseline(value=1.0, tolerance=0.1)})
    remaining = list(measurements)

    regressions = runner.measure_quick_part(lambda quick: [_row("a", remaining.pop(0), "higher")])

    assert bool(regressions) is worse
    assert len(measurements) - len(remaining) == num_measured
