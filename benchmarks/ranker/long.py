"""Long histories: what the general search unit (GSU) costs, and what it finds, on simulated logs.

A user has many interests, each a small group of alike items, but their latest behaviors are of two of them
alone. A target may be of any of them, its negatives are of none. Who reads the newest behaviors sees little
of that. Whoever searches the whole history finds the group of the target. The same lists, the same network,
one seed each.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from benchmarks.ranker.trials import RankerInputs, train_and_score_ranker
from benchmarks.shared import generated_tables as tables
from benchmarks.shared.generated_tables import START
from benchmarks.shared.measured_process import measure_seconds
from benchmarks.shared.results import Row, make_row
from contracts.array_types import FloatArray, IntArray
from contracts.table_schema import UTC_TIME
from contracts.tables import TRAINING_SET
from models.ranker.config import RankerConfig, RankerFeatures
from models.ranker.lists.general_search_unit import search_history

LENGTH, HISTORY = 1_000, 50
NUM_GROUPS, GROUP_SIZE, DIM = 300, 10, 64
_INTERESTS, _RECENT, _RECENT_INTERESTS = 30, 60, 2
_LISTS = {"train": (3_000, 4), "validation": (300, 99), "test": (1_000, 99)}
"""Part of the log -> lists, negatives of each."""
_SPREAD, _ROWS_AT_ONCE = 0.6, 200


def measure_long_histories(*, quick: bool) -> Iterator[Row]:
    """The row of what is found; `quick`: none."""
    if quick:
        return
    with TemporaryDirectory() as folder:
        inputs = _write_simulated_inputs(Path(folder))
        recent_ndcg, search_ndcg = (
            train_and_score_ranker(
                RankerConfig(
                    features=RankerFeatures(inferred=False), num_threads=1, search_length=search_length
                ),
                inputs,
            )["ndcg10"]
            for search_length in (0, LENGTH)
        )
    yield make_row(
        "ranker.long_history.search_over_recent.ndcg10_ratio",
        search_ndcg / recent_ndcg,
        unit="ratio",
        data=f"simulated histories of {LENGTH:,} behaviors, {HISTORY} of them read",
        seeds=[0],
    )


def time_search(length: int, dim: int, num_candidates: int) -> float:
    """Shortest time of searching one history for one request."""
    rng = np.random.default_rng(0)
    history, candidates = (_draw_directions(rng, count, dim) for count in (length, num_candidates))
    return min(measure_seconds(lambda: search_history(history, candidates, keep=HISTORY)) for _ in range(20))


def _draw_directions(rng: np.random.Generator, count: int, dim: int) -> FloatArray:
    return tables.normalize_rows(rng.standard_normal((count, dim), dtype=np.float32))


def _write_simulated_inputs(folder: Path) -> RankerInputs:
    rng = np.random.default_rng(0)
    item_ids = tables.number_item_ids(NUM_GROUPS * GROUP_SIZE)
    items = pl.DataFrame({"item_id": item_ids, "title": item_ids, "available_at": START})
    tables.write_dataset(
        folder / "dataset", items, tables.click_items_once(items), tables.split_at(START + timedelta(days=1))
    )
    group_numbers = np.arange(len(items)) // GROUP_SIZE
    group_vectors = _draw_directions(rng, NUM_GROUPS, DIM)[group_numbers]
    vectors = tables.normalize_rows(group_vectors + _SPREAD * _draw_directions(rng, len(items), DIM))
    tables.write_embeddings(folder, tables.make_embeddings(item_ids, vectors, space="simulated"))
    list_frames = [
        _make_lists(items["item_id"], log_part, first, min(_ROWS_AT_ONCE, count - first), num_negatives, rng)
        for log_part, (count, num_negatives) in _LISTS.items()
        for first in range(0, count, _ROWS_AT_ONCE)
    ]
    tables.write_single_table(folder, "training_set", TRAINING_SET, pl.concat(list_frames))
    return RankerInputs(folder / "training_set", folder / "dataset", folder / "item_embeddings")


def _make_lists(
    item_ids: pl.Series, log_part: str, first: int, count: int, num_negatives: int, rng: np.random.Generator
) -> pl.DataFrame:
    group_order = rng.random((count, NUM_GROUPS)).argsort(1)
    own_groups, other_groups = group_order[:, :_INTERESTS], group_order[:, _INTERESTS:]
    # Newest first: the latest are of the first two interests alone.
    drawn_interests = rng.integers(_INTERESTS, size=(count, LENGTH))
    drawn_interests[:, :_RECENT] = rng.integers(_RECENT_INTERESTS, size=(count, _RECENT))
    history_items = _draw_members(np.take_along_axis(own_groups, drawn_interests, 1), rng)
    target_interest = rng.integers(_INTERESTS, size=(count, 1))
    target_items = _draw_members(np.take_along_axis(own_groups, target_interest, 1), rng)
    negative_places = rng.integers(other_groups.shape[1], size=(count, num_negatives))
    negative_items = _draw_members(other_groups[np.arange(count)[:, None], negative_places], rng)
    candidate_items = np.concatenate([target_items, negative_items], 1)
    list_number = pl.int_range(first, first + count)
    click_lists = tables.make_list_column(np.tile(np.arange(num_negatives + 1) == 0, (count, 1)))
    protocols = ["contemporaneous"] if log_part != "test" else ["contemporaneous", "within_cold"]
    timestamp = (pl.lit(START) + pl.duration(seconds=list_number)).cast(UTC_TIME)
    rows = pl.select(
        list_id=pl.format(f"{log_part}/{{}}", list_number),
        user_id=pl.format("u{}", list_number),
        timestamp=timestamp,
        split=pl.lit(log_part),
        history_as_of=timestamp,
        item_ids=_name_items(item_ids, candidate_items),
        clicks=click_lists,
        orders=click_lists,
        values=tables.make_list_column(np.zeros(candidate_items.shape, np.float32)),
        history_item_ids=_name_items(item_ids, history_items),
        history_event_types=pl.Series([["click"] * LENGTH]).new_from_index(0, count),
        history_ages_s=tables.make_list_column(np.tile(np.arange(LENGTH) * 3600, (count, 1))),
    )
    protocol_rows = [
        rows.with_columns(protocol=pl.lit(protocol), list_id=pl.format(f"{protocol}/{{}}", "list_id"))
        for protocol in protocols
    ]
    return TRAINING_SET.check_rows(pl.concat(protocol_rows))


def _draw_members(groups: IntArray, rng: np.random.Generator) -> IntArray:
    """An item of each group."""
    return np.asarray(groups * GROUP_SIZE + rng.integers(GROUP_SIZE, size=groups.shape))


def _name_items(item_ids: pl.Series, item_numbers: IntArray) -> pl.Series:
    return item_ids.gather(item_numbers.ravel()).reshape(item_numbers.shape).arr.to_list()
