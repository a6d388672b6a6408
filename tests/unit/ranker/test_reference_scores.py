"""Scores without a model: what they are, by definition."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.table_schema import UTC_TIME
from models.ranker.evaluation import reference_scores
from models.ranker.evaluation.list_counts import ListCounts, describe_list_counts, parse_list_counts
from models.ranker.evaluation.reference_scores import fit_ease, measure_references
from models.ranker.lists.item_statistics import ItemActivity

ITEM_ENUM = pl.Enum(["a", "b", "c", "d"])
A, B, C, D = (row + 2 for row in range(4))


class _Lists(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.offsets) - 1


def _make_behaviors(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "second"], orient="row")
    return frame.with_columns(timestamp=pl.from_epoch("second", time_unit="s").cast(UTC_TIME))


def _make_list(candidates: list[int], *, clicked: int, history: list[int], second: int) -> Any:
    return _Lists(
        offsets=np.array([0, len(candidates)]),
        candidates=np.array(candidates, np.int32),
        clicks=np.array(candidates) == clicked,
        history=np.array([history], np.int32),
        times_s=np.array([second]),
    )


BEHAVIORS = _make_behaviors(
    [("u", "a", 1), ("u", "b", 2), ("v", "a", 3), ("v", "b", 4), ("w", "c", 5), ("w", "a", 9), ("x", "d", 20)]
)


@pytest.mark.parametrize(
    ("second", "first_by_score"),
    [
        (
            7,
            {
                "popularity": {A, B},
                "minus popularity": {D},
                "newness": {D},
                "recency": {C},
                "minus recency": {D},
            },
        ),
        # At its own second a behavior does not count yet.
        (9, {"popularity": {A, B}, "recency": {C}, "minus newness": {A}}),
        (10, {"popularity": {A}, "minus popularity": {D}, "recency": {A}}),
        (21, {"newness": {D}, "recency": {D}, "minus recency": {B}}),
    ],
)
def test_scores_know_what_was_before(second: int, first_by_score: dict[str, set[int]]) -> None:
    activity = ItemActivity.index_behaviors(BEHAVIORS, ITEM_ENUM)
    for clicked in (A, B, C, D):
        lists = _make_list([A, B, C, D], clicked=clicked, history=[B, 0], second=second)
        references = measure_references(
            lists, np.zeros(1, np.int64), activity, "EASE: none", full_size=None, num_bootstrap=100
        )
        assert references.notes == ["EASE: none"]
        for name, winners in first_by_score.items():
            expected = np.mean([1.0, 1 / np.log2(3)][: len(winners)]) if clicked in winners else 0
            if clicked in winners:
                assert references.summaries[name]["ndcg10"] == pytest.approx(expected), (name, clicked)
            else:
                assert references.summaries[name]["ndcg10"] < 0.7


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_ease_is_its_closed_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    owned = rng.random((30, 4)) < 0.4
    owned[0] = True
    rows = [(f"u{user}", "abcd"[item], 1) for user, item in zip(*np.nonzero(owned), strict=True)]
    # A repeat is no second vote, and an item that the catalogue does not hold is none.
    ease = fit_ease(_make_behaviors([*rows, *rows[:5], ("u1", "z", 1)]), ITEM_ENUM)
    assert not isinstance(ease, str)
    inverse = np.linalg.inv(owned.T.astype(float) @ owned + reference_scores._EASE_PENALTY * np.eye(4))
    expected = np.eye(4) - inverse / np.diag(inverse)
    np.testing.assert_allclose(ease.weights, expected, atol=1e-5)
    np.testing.assert_array_equal(ease.item_places, [-1, -1, 0, 1, 2, 3])


def test_ease_finds_what_goes_together() -> None:
    rows = [(f"u{user}", item, user) for user in range(50) for item in ("ab" if user % 2 else "cd")]
    behaviors = _make_behaviors(rows)
    activity, ease = ItemActivity.index_behaviors(behaviors, ITEM_ENUM), fit_ease(behaviors, ITEM_ENUM)
    lists = _make_list([D, B, 1], clicked=B, history=[A, A, 1, 0], second=99)
    summaries = measure_references(
        lists, np.zeros(1, np.int64), activity, ease, full_size=3, num_bootstrap=100
    ).summaries
    assert summaries["EASE"]["ndcg10"] == 1
    assert 0 < summaries["chance"]["ndcg10"] < 1


def test_ease_of_many_items_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_scores, "MAX_EASE_ITEMS", 2)
    reason = fit_ease(BEHAVIORS, ITEM_ENUM)
    assert isinstance(reason, str)
    assert "4 items" in reason
    assert "at most 2" in reason


def test_counts_are_told_in_a_sentence() -> None:
    metrics = {
        "events.contemporaneous.test": 100.0,
        "lists.contemporaneous.test": 40.0,
        "skipped.contemporaneous.test.repeat": 60.0,
        "skipped.contemporaneous.test.no_negative": 0.0,
        "candidates_mean.contemporaneous.test": 98.5,
        "candidates_min.contemporaneous.test": 7.0,
        "events.contemporaneous.train": 900.0,
    }
    counts = parse_list_counts(metrics)
    assert counts == {"contemporaneous": ListCounts(100, 40, {"repeat": 60}, 98.5, 7)}
    assert describe_list_counts(counts["contemporaneous"]) == (
        "40 of 100 events became lists of 98.5 candidates, at least 7; left out: 60 repeat"
    )
