"""The sizing page says what was measured, and its examples follow from its formulas."""

import math
import re
from pathlib import Path

import pytest

from benchmarks.shared.results import RESULTS, read_rows

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/how-to/size-a-cluster.md").read_text()


def read_number(text: str) -> float:
    found = re.search(r"\d[\d,]*(\.\d+)?", text)
    assert found, text
    return float(found.group().replace(",", ""))


def test_unit_costs_are_those_of_the_results() -> None:
    rows = {row.id: row.value for path in RESULTS.glob("*.json") for row in read_rows(path)}
    quoted = re.findall(r"^\| [^|]+ \| ([^|]+) \| `([\w.]+)` \|$", PAGE, flags=re.M)
    assert len(quoted) >= 6
    for text, row_id in quoted:
        if text != "not measured yet":
            assert read_number(text) == pytest.approx(rows[row_id], rel=0.1), row_id


def read_examples(label: str) -> list[float]:
    (row,) = re.findall(rf"^\| {label}[^|]*\|(.*)\|$", PAGE, flags=re.M)
    return [read_number(cell) for cell in row.split("|")]


def test_examples_follow_from_the_formulas() -> None:
    labels = ("items", "users", "peak requests/s", "serving cores", "Redis, GB")
    columns = zip(*map(read_examples, (*labels, "inference", "tokens", "serving at")), strict=True)
    for items, users, rate, cores, redis, hours, tokens, money in columns:
        assert cores == math.ceil(rate / 44)
        assert redis == pytest.approx((2 * items + 4 * users) / 1e6, rel=0.06)
        assert hours == pytest.approx(users * items / (4172 * 10_000 * 3600), rel=0.15)
        assert tokens == items * 600 / 1e6
        assert money == pytest.approx(cores * 0.04 * 730, rel=0.01)
