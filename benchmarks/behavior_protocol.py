"""What every behaviour model is measured on: behaviours of a user that no training has seen.

A task is a log with some behaviours taken out: `visible`, all that anything may be fitted to (it is also written as a
dataset artifact, so that the product's own steps can be run on it), and `hidden`, what is to be found. A tenth of the
users choose (validation), the others are reported (test). A model gives each user a list of items that he has not
logged; a metric is the mean over the users who have something to find in the slice.

Shape letters: U users, N items, K places of a list.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.artifacts import new_artifact, read_table, write_json, write_table
from contracts.dataset import Dataset, Split, before, read_dataset
from contracts.digests import digest_value
from contracts.ingestion.ingest import ingest
from contracts.tables import EVENTS, ITEMS
from pipelines.config import RunConfig

Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Kind = Literal["random", "last_two", "time", "elsewhere"]
"""What is hidden; `elsewhere` is of `behavior_tasks.make_shop_task` alone."""

VERSION = 1
"""Raise it when the hidden behaviours of a seed change: tasks on disk are made again."""
HIDDEN_SHARE, MIN_VISIBLE, NUM_LAST, TIME_SHARE = 0.3, 3, 2, 0.8
VALIDATION_SHARE = 0.1
HEAD, SHORT, COLD = 20, 4, 5
"""The most popular items; a history of at most so many behaviours; an item with fewer visible behaviours."""
RECALL_AT = (10, 20, 50)
LIST_LENGTH = max(RECALL_AT)
_BURST = timedelta(hours=1)
_SLICES = ("all", "nonhead", "short", "cold", "unseen", "noburst")


class Task(NamedTuple):
    """A log with hidden behaviours. Users and items are numbers: places in `users` and `item_ids`."""

    name: str
    dataset: Path
    """The artifact of what is visible."""
    users: pl.Series
    """[U] everybody who has a visible behaviour, sorted."""
    item_ids: pl.Series
    """[N] the whole catalogue, sorted."""
    visible: pl.DataFrame
    """Columns user, item, time_us: distinct behaviours in the order of user and time."""
    hidden: pl.DataFrame
    """Columns user, item, in_burst (is a visible behaviour of the user within an hour of it?)."""
    is_validation: Bools
    """[U]"""

    @property
    def visible_counts(self) -> Ints:
        """How often each item is seen, [N]."""
        return np.bincount(self.visible["item"].to_numpy(), minlength=len(self.item_ids))

    @property
    def asked(self) -> Ints:
        """The users who have something hidden, ascending."""
        return np.unique(self.hidden["user"].to_numpy())


Scores = dict[str, dict[str, Reals]]
"""Slice -> metric -> one value per user [U]; not a number where the user has nothing to find in the slice."""


def make_task(config: RunConfig, *, kind: Kind = "random", seed: int = 0) -> Task:
    """Takes behaviours out of a data set; the artifact is written once and used again.

    Args:
        config: the data set's run configuration.
        kind: `random` hides each behaviour with probability 0.3, `last_two` the last two; both leave at least three.
            `time` hides what is new to a user in the last fifth of the log.
        seed: of the choice of behaviours and of validation users.
    """
    assert config.data is not None
    made_of = [VERSION, config.data.model_dump(mode="json"), kind, seed]
    folder = config.home / "bench_behavior" / f"{kind}-{digest_value(made_of)}"
    if not (folder / "dataset").exists():
        folder.mkdir(parents=True, exist_ok=True)
        ingest(config.data, out=folder / "whole")
        whole = read_dataset(folder / "whole")
        hidden = hide(_distinct(whole.behaviors), kind=kind, seed=seed)
        hidden.write_parquet(folder / "hidden.parquet")
        write_visible(whole, hidden, kind=kind, out=folder / "dataset")
    return read_task(config.name, folder / "dataset", pl.read_parquet(folder / "hidden.parquet"), seed=seed)


def hide(behaviors: pl.DataFrame, *, kind: Kind, seed: int) -> pl.DataFrame:
    """Chooses the hidden behaviours among distinct ones (columns user_id, item_id, timestamp)."""
    count = pl.len().over("user_id")
    most = (count - MIN_VISIBLE).clip(0)
    rows = behaviors.sort("user_id", "timestamp", "item_id")
    if kind == "time":
        times = rows["timestamp"].sort()
        is_late = pl.col("timestamp") >= times[int(len(times) * TIME_SHARE)]
        left = (~is_late).sum().over("user_id")
        return rows.filter(is_late & (left >= MIN_VISIBLE))
    if kind == "last_two":
        order, wanted = pl.int_range(pl.len(), 0, -1).over("user_id") - 1, pl.lit(NUM_LAST)
    else:
        rows = rows.with_columns(draw=pl.Series(np.random.default_rng(seed).random(len(rows))))
        order = pl.col("draw").rank("ordinal").over("user_id").cast(pl.Int64) - 1
        wanted = (pl.col("draw") < HIDDEN_SHARE).sum().over("user_id")
    return rows.filter(order < pl.min_horizontal(wanted.cast(pl.Int64), most.cast(pl.Int64))).select(behaviors.columns)


def write_visible(whole: Dataset, hidden: pl.DataFrame, *, kind: Kind, out: Path) -> None:
    """Writes the log without any event of a hidden (user, item) pair; all that is left is before the training end.

    A `time` task hides by moment: nothing of anybody from the first hidden moment on is left.
    """
    end = hidden.select(pl.col("timestamp").min()).item() if kind == "time" else whole.split.cutoff
    shown = before(whole.events, end)
    visible = shown.join(hidden, on=["user_id", "item_id"], how="anti", maintain_order="left")
    split = Split(train_end=end, validation_end=end, cutoff=end)
    with new_artifact(out, kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, whole.items)
        write_table(artifact.path / "events.parquet", EVENTS, visible)
        write_json(artifact.path / "split.json", split.model_dump(mode="json"))


def read_task(name: str, dataset: Path, hidden: pl.DataFrame, *, seed: int) -> Task:
    """The task of a visible dataset artifact and its hidden behaviours (columns user_id, item_id, timestamp)."""
    data = read_dataset(dataset)
    item_ids = read_table(dataset / "items.parquet", ITEMS)["item_id"].sort()
    visible = _distinct(data.behaviors)
    users = visible["user_id"].unique().sort()
    known = hidden.filter(pl.col("user_id").is_in(users.implode()))
    chosen = np.random.default_rng(seed + 1).random(len(users)) < VALIDATION_SHARE
    numbered = _numbered(visible, users, item_ids)
    return Task(
        name=name,
        dataset=dataset,
        users=users,
        item_ids=item_ids,
        visible=numbered.select("user", "item", "time_us").sort("user", "time_us", "item"),
        hidden=_with_bursts(_numbered(known, users, item_ids), numbered),
        is_validation=chosen,
    )


def measure_lists(task: Task, lists: Ints) -> Scores:
    """Recall@10/20/50 and NDCG@10 of lists [U, K] (item numbers, best first, -1 where there is none), by slice."""
    return {name: _measure(task, lists, hidden) for name, hidden in _slices(task) if len(hidden)}


def mean(scores: Scores, task: Task, *, slice_name: str = "all", metric: str = "recall10", validation: bool) -> float:
    """The mean of a metric over the validation or the test users."""
    values = scores[slice_name][metric][task.is_validation == validation]
    return float(np.nanmean(values))


def excluded(task: Task, users: Ints) -> Bools:
    """[len(users), N] the items that each of `users` has logged."""
    mask = np.zeros((len(task.users), len(task.item_ids)), bool)
    mask[task.visible["user"].to_numpy(), task.visible["item"].to_numpy()] = True
    chosen: Bools = mask[users]
    return chosen


def _slices(task: Task) -> Iterator[tuple[str, pl.DataFrame]]:
    counts = task.visible_counts
    head = np.argsort(-counts, kind="stable")[:HEAD]
    lengths = np.bincount(task.visible["user"].to_numpy(), minlength=len(task.users))
    item, user = task.hidden["item"].to_numpy(), task.hidden["user"].to_numpy()
    masks = {
        "all": np.ones(len(item), bool),
        "nonhead": ~np.isin(item, head),
        "short": lengths[user] <= SHORT,
        "cold": counts[item] < COLD,
        "unseen": counts[item] == 0,
        "noburst": ~task.hidden["in_burst"].to_numpy(),
    }
    assert tuple(masks) == _SLICES
    yield from ((name, task.hidden.filter(mask)) for name, mask in masks.items())


def _measure(task: Task, lists: Ints, hidden: pl.DataFrame) -> dict[str, Reals]:
    user, item = hidden["user"].to_numpy(), hidden["item"].to_numpy()
    places = lists[user] == item[:, None]
    rank = np.where(places.any(axis=1), places.argmax(axis=1), lists.shape[1])
    counts = np.bincount(user, minlength=len(task.users)).astype(float)
    counts[counts == 0] = np.nan
    found = {f"recall{at}": np.bincount(user, rank < at, minlength=len(counts)) / counts for at in RECALL_AT}
    gains = 1 / np.log2(np.arange(10) + 2)
    gained = np.bincount(user, np.where(rank < 10, gains[np.minimum(rank, 9)], 0), minlength=len(counts))
    best = np.concatenate([[0], np.cumsum(gains)])[np.minimum(np.nan_to_num(counts), 10).astype(int)]
    return found | {"ndcg10": gained / np.where(best > 0, best, np.nan)}


def _distinct(behaviors: pl.DataFrame) -> pl.DataFrame:
    return (
        behaviors.group_by("user_id", "item_id").agg(pl.col("timestamp").min()).sort("user_id", "timestamp", "item_id")
    )


def _numbered(pairs: pl.DataFrame, users: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
    rows = pairs.join(_numbers(users, "user"), left_on="user_id", right_on="id").join(
        _numbers(item_ids, "item"), left_on="item_id", right_on="id"
    )
    return rows.select("user", "item", time_us=pl.col("timestamp").dt.epoch("us"))


def _numbers(ids: pl.Series, name: str) -> pl.DataFrame:
    return pl.DataFrame({"id": ids}).with_row_index(name).with_columns(pl.col(name).cast(pl.Int64))


def _with_bursts(hidden: pl.DataFrame, visible: pl.DataFrame) -> pl.DataFrame:
    """Adds `in_burst`."""
    near = hidden.sort("time_us").join_asof(
        visible.sort("time_us").select("user", "time_us", seen_us="time_us"),
        on="time_us",
        by="user",
        strategy="nearest",
        check_sortedness=False,
    )
    gap = (pl.col("time_us") - pl.col("seen_us")).abs()
    in_burst = (gap <= _BURST // timedelta(microseconds=1)).fill_null(False)
    return near.select("user", "item", in_burst=in_burst).sort("user", "item")
