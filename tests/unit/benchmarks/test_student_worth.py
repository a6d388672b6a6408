"""The calls that a cascade needs are read off a curve."""

import pytest

from benchmarks.knowledge.student_worth import find_calls


@pytest.mark.parametrize(
    ("points", "calls"),
    [
        ([(0.25, 0.75), (0.6, 0.85), (1.0, 1.0)], 0.6 + 0.1 / 0.15 * 0.4),
        ([(0.25, 0.75), (0.6, 1.15), (1.0, 1.0)], 0.25 + 0.5 * 0.35),
        ([(0.25, 0.97), (0.6, 0.9), (1.0, 1.0)], 0.25),
    ],
)
def test_calls_are_read_straight_between_points(points, calls):
    assert find_calls(points, 0.95) == pytest.approx(calls)
