"""Candidates of ranking lists: numbers in the right places, and what a list of items says of them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from benchmarks.behavior_candidates import Judges, Lists, read_lists
from benchmarks.peers.log import NO_ITEM
from contracts.tables import TRAINING_SET
from models.behavior.catalogue import Catalogue

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def catalogue() -> Catalogue:
    vectors = np.eye(6, dtype=np.float32)
    codes, available = np.arange(6)[:, None], np.zeros(6, np.int64)
    return Catalogue(pl.Series([f"i{n}" for n in range(6)]), codes, vectors, available, "made up")


@pytest.fixture
def lists(catalogue: Catalogue) -> Lists:
    rows = {
        "list_id": ["a", "b"],
        "user_id": ["u", "v"],
        "timestamp": [NOW, NOW],
        "item_ids": [["i1", "i2", "i3"], ["i0", "i5"]],
        "clicks": [[False, True, False], [True, False]],
        "history_item_ids": [["i4", "i0", "i4"], []],
        "history_event_types": [["order", "click", "click"], []],
        "history_ages_s": [[10, 20, 30], []],
        "history_as_of": [NOW - timedelta(seconds=5), None],
    }
    frame = pl.DataFrame(rows, schema={name: TRAINING_SET.schema[name] for name in rows})
    return read_lists(frame, catalogue, max_history=4)


def test_lists_are_read_oldest_first_with_ages_at_the_time_of_the_list(lists: Lists) -> None:
    assert lists.histories[0].tolist()[:3] == [4, 0, 4]
    assert (lists.histories[1] == NO_ITEM).all()
    assert lists.candidates.tolist() == [[1, 2, 3], [0, 5, NO_ITEM]]
    assert lists.clicked.tolist() == [1, 0]
    # The behaviour model sees an item once, at its first time, by its strongest event.
    assert lists.sequences.items[0].tolist() == [NO_ITEM, NO_ITEM, 4, 0]
    assert lists.sequences.ages_s[0].tolist() == [0, 0, 35, 25]
    assert lists.sequences.event_types[0, 2] > lists.sequences.event_types[0, 3]


def test_a_listed_candidate_has_its_confidence_and_a_full_cosine(lists: Lists, catalogue: Catalogue) -> None:
    items, confidences = np.array([[2, 5], [NO_ITEM, NO_ITEM]]), np.array([[0.5, 0.25], [0, 0]], np.float32)
    confidence, nearest, mean = Judges(lists, catalogue.vectors).listed(items, confidences)
    assert confidence[0].tolist() == [0, 0.5, 0]
    assert nearest[0].tolist() == [0, 1, 0]
    assert mean[0] == pytest.approx([0, 2 / 3, 0])
    assert (confidence[1] == 0).all()


def test_scores_are_those_of_the_candidates(lists: Lists, catalogue: Catalogue) -> None:
    scored = Judges(lists, catalogue.vectors).scored(
        lambda histories: np.tile(np.arange(6, dtype=np.float32), (len(histories), 1))
    )
    assert scored[0].tolist() == [1, 2, 3]
    assert scored[1, :2].tolist() == [0, 5]
