"""What every behavior model is measured on: behaviors of a user that no training has seen.

A task is a log with some behaviors taken out: `visible`, all that anything may be fitted to (it is also
written as a dataset artifact, so that the product's own steps can be run on it), and `hidden`, what is to be
found. A tenth of the users choose (validation), the others are reported (test). A model gives each user a
list of items that they have not logged; a metric is the mean over the users who have something to find in the
slice.

Shape letters: U users, N items, K places of a list.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.shared.generated_tables import split_at, write_dataset
from contracts.array_types import BoolArray, DoubleArray, IntArray
from contracts.artifacts import read_table
from contracts.dataset import Dataset, read_dataset, select_events_before
from contracts.digests import digest_value
from contracts.ingestion.ingest import ingest_dataset
from contracts.tables import ITEMS
from pipelines.config import RunConfig

VERSION = 1
"""Raise it when the hidden behaviors of a seed change: tasks on disk are made again."""
HIDDEN_SHARE, MIN_VISIBLE = 0.3, 3
VALIDATION_SHARE = 0.1
HEAD, COLD = 20, 5
"""So many items are the most popular ones; an item with fewer visible behaviors is cold."""
RECALL_AT = (10, 20, 50)
LIST_LENGTH = max(RECALL_AT)


class Task(NamedTuple):
    """A log with hidden behaviors. Users and items are numbers: places in `users` and `item_ids`."""

    name: str
    dataset: Path
    """The artifact of what is visible."""
    users: pl.Series
    """[U] everybody who has a visible behavior, sorted."""
    item_ids: pl.Series
    """[N] the whole catalogue, sorted."""
    visible: pl.DataFrame
    """Columns user, item, time_us: distinct behaviors in the order of user and time."""
    hidden: pl.DataFrame
    """Columns user, item."""
    is_validation: BoolArray
    """[U]"""

    @property
    def visible_counts(self) -> IntArray:
        """How often each item is seen, [N]."""
        return np.bincount(self.visible["item"].to_numpy(), minlength=len(self.item_ids))

    @property
    def asked_users(self) -> IntArray:
        """The users who have something hidden, ascending."""
        return np.unique(self.hidden["user"].to_numpy())


Scores = dict[str, dict[str, DoubleArray]]
"""Slice -> metric -> one value per user [U]; not a number where the user has nothing to find in the slice."""


def make_hidden_task(config: RunConfig, *, seed: int = 0) -> Task:
    """Hides each behavior of a data set with probability 0.3, but leaves each user three.

    The artifact is written once and used again. `seed` draws the behaviors and the validation users.
    """
    assert config.data is not None
    task_settings = [VERSION, config.data.model_dump(mode="json"), seed]
    folder = config.home / "bench_behavior" / f"random-{digest_value(task_settings)}"
    if not (folder / "dataset").exists():
        folder.mkdir(parents=True, exist_ok=True)
        ingest_dataset(config.data, out=folder / "whole")
        whole_dataset = read_dataset(folder / "whole")
        hidden_pairs = hide_behaviors(_find_distinct_behaviors(whole_dataset.behaviors), seed=seed)
        hidden_pairs.write_parquet(folder / "hidden.parquet")
        write_visible(whole_dataset, hidden_pairs, out=folder / "dataset")
    return read_task(config.name, folder / "dataset", pl.read_parquet(folder / "hidden.parquet"), seed=seed)


def hide_behaviors(behaviors: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """Chooses the hidden behaviors among distinct ones (columns user_id, item_id, timestamp)."""
    num_behaviors = pl.len().over("user_id")
    max_hidden = (num_behaviors - MIN_VISIBLE).clip(0)
    drawn_rows = behaviors.sort("user_id", "timestamp", "item_id")
    drawn_rows = drawn_rows.with_columns(draw=pl.Series(np.random.default_rng(seed).random(len(drawn_rows))))
    draw_order = pl.col("draw").rank("ordinal").over("user_id").cast(pl.Int64) - 1
    num_drawn = (pl.col("draw") < HIDDEN_SHARE).sum().over("user_id")
    num_hidden = pl.min_horizontal(num_drawn.cast(pl.Int64), max_hidden.cast(pl.Int64))
    return drawn_rows.filter(draw_order < num_hidden).select(behaviors.columns)


def write_visible(whole: Dataset, hidden: pl.DataFrame, *, out: Path) -> None:
    """Writes the log without any event of a hidden (user, item) pair, all of it before the training end."""
    log_end = whole.split.cutoff
    events_before_end = select_events_before(whole.events, log_end)
    pair = ["user_id", "item_id"]
    visible_events = events_before_end.join(hidden, on=pair, how="anti", maintain_order="left")
    write_dataset(out, whole.items, visible_events, split_at(log_end))


def read_task(name: str, dataset: Path, hidden: pl.DataFrame, *, seed: int) -> Task:
    """The task of a visible dataset and its hidden behaviors (columns user_id, item_id, timestamp)."""
    visible_dataset = read_dataset(dataset)
    item_ids = read_table(dataset / "items.parquet", ITEMS)["item_id"].sort()
    visible_pairs = _find_distinct_behaviors(visible_dataset.behaviors)
    known_users = visible_pairs["user_id"].unique().sort()
    hidden_of_users = hidden.filter(pl.col("user_id").is_in(known_users.implode()))
    return Task(
        name=name,
        dataset=dataset,
        users=known_users,
        item_ids=item_ids,
        visible=_number_rows(visible_pairs, known_users, item_ids).sort("user", "time_us", "item"),
        hidden=_number_rows(hidden_of_users, known_users, item_ids)
        .select("user", "item")
        .sort("user", "item"),
        is_validation=np.random.default_rng(seed + 1).random(len(known_users)) < VALIDATION_SHARE,
    )


def measure_lists(task: Task, lists: IntArray) -> Scores:
    """Recall@10/20/50 of lists [U, K] (item numbers, best first, -1 where there is none), by slice."""
    return {
        slice_name: _measure_slice(task, lists, slice_pairs)
        for slice_name, slice_pairs in _list_slices(task)
        if len(slice_pairs)
    }


def average_metric(
    scores: Scores, task: Task, *, slice_name: str = "all", metric: str = "recall10", validation: bool
) -> float:
    """The mean of a metric over the validation or the test users."""
    user_values = scores[slice_name][metric][task.is_validation == validation]
    return float(np.nanmean(user_values))


def mask_excluded_items(task: Task, users: IntArray) -> BoolArray:
    """[len(users), N] the items that each of `users` has logged."""
    is_logged = np.zeros((len(task.users), len(task.item_ids)), bool)
    is_logged[task.visible["user"].to_numpy(), task.visible["item"].to_numpy()] = True
    return np.asarray(is_logged[users])


def _list_slices(task: Task) -> Iterator[tuple[str, pl.DataFrame]]:
    visible_counts = task.visible_counts
    head_items = np.argsort(-visible_counts, kind="stable")[:HEAD]
    hidden_items = task.hidden["item"].to_numpy()
    yield "all", task.hidden
    yield "nonhead", task.hidden.filter(~np.isin(hidden_items, head_items))
    yield "cold", task.hidden.filter(visible_counts[hidden_items] < COLD)


def _measure_slice(task: Task, lists: IntArray, hidden: pl.DataFrame) -> dict[str, DoubleArray]:
    user_rows, item_rows = hidden["user"].to_numpy(), hidden["item"].to_numpy()
    is_hit = lists[user_rows] == item_rows[:, None]
    hit_places = np.where(is_hit.any(axis=1), is_hit.argmax(axis=1), lists.shape[1])
    hidden_counts = np.bincount(user_rows, minlength=len(task.users)).astype(float)
    hidden_counts[hidden_counts == 0] = np.nan
    return {
        f"recall{cutoff}": np.bincount(user_rows, hit_places < cutoff, minlength=len(task.users))
        / hidden_counts
        for cutoff in RECALL_AT
    }


def _find_distinct_behaviors(behaviors: pl.DataFrame) -> pl.DataFrame:
    return (
        behaviors.group_by("user_id", "item_id")
        .agg(pl.col("timestamp").min())
        .sort("user_id", "timestamp", "item_id")
    )


def _number_rows(pairs: pl.DataFrame, users: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
    numbered_pairs = pairs.join(_number_values(users, "user"), left_on="user_id", right_on="id").join(
        _number_values(item_ids, "item"), left_on="item_id", right_on="id"
    )
    return numbered_pairs.select("user", "item", time_us=pl.col("timestamp").dt.epoch("us"))


def _number_values(ids: pl.Series, name: str) -> pl.DataFrame:
    return pl.DataFrame({"id": ids}).with_row_index(name).with_columns(pl.col(name).cast(pl.Int64))
