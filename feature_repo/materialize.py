"""Materialization: the newest value of every feature goes into the online store, and is read back.

Each batch of rows is first compared with what the store holds, so that only new and changed rows are written: a run
that was killed goes on where it was, a repeated one mends what is missing, and a refresh costs little more than
reading. A value that was pushed while serving stays when it is newer (one that comes in the milliseconds between the
look and the write is overwritten; the next materialization of the log has it). Every row that was written is read back
and must be equal, or newer by then where values are pushed.

Feast's own writers do none of this: Redis' skips rows of equal time, SQLite's overwrites newer ones.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from contracts.artifacts import read_lineage, write_json
from contracts.errors import UserError
from feature_repo.config import FeatureConfig
from feature_repo.online_rows import Rows
from feature_repo.online_view import OnlineView, open_view
from feature_repo.ray_engine import write_by_ray
from feature_repo.store import open_store, write_store_file
from feature_repo.views import TIMESTAMP, base_services, entities, feature_views, knowledge_view_name

MATERIALIZED_FILE: Final = "materialized.json"
"""What the store holds; its change tells running readers to forget what they cached."""
_CLOCK_US: Final = 1000
"""Times that differ by less are the same: a store may keep less than microseconds."""
_SAMPLE: Final = 20
"""Rows of a batch that tell whether the store holds it at all."""
_COUNTS: Final = ("written", "unchanged", "kept")


class OfflineTable(NamedTuple):
    """A table of the features artifact and the view that it goes into."""

    path: Path
    view: str
    key: str
    pushed: bool = False
    """Is the view also written while serving?"""


class Batch(NamedTuple):
    """What became of a batch."""

    number: int
    written: int
    unchanged: int
    kept: int
    """The store had newer ones."""
    digest: bytes


def materialize_features(features: Path, config: FeatureConfig, *, store: Path) -> dict[str, float]:
    """Registers the Feast objects in `store` and fills its online store.

    The vectors of a new embedding space go into a view of their own: rankers of the former space are served from theirs
    until the routes name a ranker of the new one.

    Returns:
        rows written, rows left as they were (those of an engine that wrote first among them), and rows kept because
        the store had newer ones, per table.

    Raises:
        UserError: the store's configuration does not resolve, or the features are of a former version.
        RuntimeError: a row in the store is not what was written.
    """
    lineage = read_lineage(features)
    space = lineage.labels["space"]
    write_store_file(store, config)
    feast = open_store(store)
    if (dim := lineage.labels.get("vector_dim")) is None:
        raise UserError(f"the features in {features} were built by a former version; run the build_features step again")
    views = feature_views(features.resolve(), space=space, ttl=config.ttl, dim=dim)
    feast.apply([*entities(), *views, *base_services(views)])
    tables = _tables(features, space)
    if config.engine == "ray":
        write_by_ray(store, [table.view for table in tables], workers=config.processes)
    counts: dict[str, float] = {}
    digests = {}
    with _open_pool(config) as pool:
        for table in tables:
            batches = fill_view(store, table, config, pool=pool)
            name = table.path.stem
            counts |= {f"{name}_{what}": sum(getattr(batch, what) for batch in batches) for what in _COUNTS}
            digests[name] = hashlib.sha256(b"".join(batch.digest for batch in batches)).hexdigest()
    description = {"space": space, "features": lineage.digest, "history_length": config.history_length, "rows": counts}
    moment = {"digests": digests, "materialized_at": datetime.now(UTC).isoformat()}
    write_json(store / MATERIALIZED_FILE, description | moment)
    return counts


def history_length_of(store: Path) -> int:
    """Behaviours that the store keeps of a user, as it was last filled."""
    try:
        found = json.loads((store / MATERIALIZED_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = {}
    return int(found.get("history_length", FeatureConfig().history_length))


def _tables(features: Path, space: str) -> tuple[OfflineTable, ...]:
    return (
        OfflineTable(features / "user_behaviors.parquet", "user_behaviors", "user_id", pushed=True),
        OfflineTable(features / "inferred_behaviors.parquet", "inferred_behaviors", "user_id"),
        OfflineTable(features / "items.parquet", "items", "item_id"),
        OfflineTable(features / "item_knowledge.parquet", knowledge_view_name(space), "item_id"),
    )


def _open_pool(config: FeatureConfig) -> AbstractContextManager[Executor | None]:
    if config.processes == 1:
        return nullcontext()
    return ProcessPoolExecutor(config.processes, mp_context=get_context("spawn"))


def fill_view(store: Path, table: OfflineTable, config: FeatureConfig, *, pool: Executor | None = None) -> list[Batch]:
    """Writes a table into its view, in `config.processes` shards; returns what became of each batch, in order.

    Args:
        store: the store's folder.
        table: what is written where.
        config: settings.
        pool: does the shards at once; by default this process does them one after the other.
    """
    do = pool.map if pool else map
    shards = do(partial(_fill_shard, store, table, config), range(config.processes))
    return sorted(batch for shard in shards for batch in shard)


def _fill_shard(store: Path, table: OfflineTable, config: FeatureConfig, shard: int) -> list[Batch]:
    view = open_view(open_store(store, overwrite_newer=True), table.view)
    numbered = iter_latest(table.path, table.key, config.batch_rows, shard=(shard, config.processes))
    return [
        _fill(view, number, batch, keep_newer=table.pushed, everything=config.rewrite) for number, batch in numbered
    ]


def iter_latest(
    path: Path, key: str, batch_rows: int, *, shard: tuple[int, int] = (0, 1)
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yields the newest row of each key, in one pass over the file.

    Args:
        path: Parquet file.
        key: column of the keys.
        batch_rows: rows of the file that are looked at together; a batch holds those of them that are the newest.
        shard: (i, n): every n-th batch, from the i-th on. Batches come with their numbers; empty ones are left out.
    """
    keys = pl.read_parquet(path, columns=[key, TIMESTAMP]).with_row_index("row")
    rows = keys.sort(TIMESTAMP, "row").group_by(key).agg(pl.col("row").last())["row"]
    is_newest = keys["row"].is_in(rows.implode())
    index, count = shard
    start = 0
    for number, batch in enumerate(pq.ParquetFile(path).iter_batches(batch_rows)):
        newest = is_newest.slice(start, batch.num_rows)
        start += batch.num_rows
        if number % count == index and newest.any():
            yield number, pl.DataFrame(batch).filter(newest)


def _fill(view: OnlineView, number: int, batch: pl.DataFrame, *, keep_newer: bool, everything: bool) -> Batch:
    rows = view.encode(batch)
    newer = same = [False] * len(rows)
    if keep_newer or (not everything and _has_some(view, rows)):
        stored = view.read(rows.keys)
        newer = _are_newer(stored, rows) if keep_newer else newer
        same = same if everything else rows.are_in(stored)
    due = rows.select([not (skip or equal) for skip, equal in zip(newer, same, strict=True)])
    view.write(due)
    _verify(view, due, keep_newer=keep_newer)
    return Batch(number, len(due), len(rows) - len(due) - sum(newer), sum(newer), rows.digest())


def _has_some(view: OnlineView, rows: Rows) -> bool:
    """Does the store hold one of a few of these rows? If not, all of them are written without a look: a first fill."""
    found = view.read(rows.keys[:: -(-len(rows) // _SAMPLE)])
    return any(time is not None for time in found.times_us)


def _verify(view: OnlineView, rows: Rows, *, keep_newer: bool) -> None:
    stored = view.read(rows.keys)
    arrived = rows.are_in(stored)
    if keep_newer:  # what was pushed since our write has taken its place
        arrived = [mine or newer for mine, newer in zip(arrived, _are_newer(stored, rows), strict=True)]
    if not all(arrived):
        raise RuntimeError(
            f"{arrived.count(False)} of {len(rows)} rows of '{view.name}' are not in the online store as they were "
            f"written, first: {rows.keys[arrived.index(False)]}"
        )


def _are_newer(stored: Rows, rows: Rows) -> list[bool]:
    times = zip(stored.times_us, rows.times_us, strict=True)
    return [found is not None and time is not None and found - time > _CLOCK_US for found, time in times]
