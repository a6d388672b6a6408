"""Materialization: the newest value of every feature goes into the online store, and is read back.

Each batch of rows is first compared with what the store holds, and only new and changed rows are written.
So a run that was killed goes on where it was, a repeated one mends what is missing, and a refresh costs
little more than reading. A value that was pushed while serving stays when it is newer. (One that comes in
the milliseconds between the comparison and the write is overwritten; the next materialization of the log
has it.) Every row that was written is read back and must be equal, or newer by then where values are
pushed.

Feast's own writers do none of this: Redis' skips rows of equal time, SQLite's overwrites newer ones.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from contracts.artifacts import read_lineage, write_json
from contracts.errors import UserError
from feature_repo.config import FeatureStoreConfig
from feature_repo.feast_store import open_store, write_store_file
from feature_repo.feature_views import (
    ITEM,
    TIMESTAMP,
    USER,
    define_base_services,
    define_feature_views,
    knowledge_view_name,
)
from feature_repo.online.online_view import FeastView, open_view
from feature_repo.online.query_encoders import install_query_encoder
from feature_repo.online.ray_engine import write_views_by_ray
from feature_repo.online.redis_view import RedisView
from feature_repo.online.row_encoder import OnlineRows

MATERIALIZED_FILE: Final = "materialized.json"
"""What the store holds; its change tells running readers to forget what they cached."""
_CLOCK_TOLERANCE_US: Final = 1000
"""Times that differ by less are the same: a store may keep less than microseconds."""
_NUM_PROBED_ROWS: Final = 20
"""Rows of a batch that tell whether the store holds it at all."""
_OUTCOMES: Final = ("written", "unchanged", "kept")


class OfflineTable(NamedTuple):
    """A table of the features artifact and the view that it goes into."""

    path: Path
    view: str
    key: str
    pushed: bool = False
    """Is the view also written while serving?"""


class BatchOutcome(NamedTuple):
    """How many rows of a batch went which way."""

    number: int
    written: int
    unchanged: int
    kept: int
    """The store had newer ones."""
    digest: bytes


def materialize_features(features: Path, config: FeatureStoreConfig, *, store: Path) -> dict[str, float]:
    """Registers the Feast objects in `store` and fills its online store. The query encoder comes beside it.

    The vectors of a new embedding space go into a view of their own. Rankers of the former space are
    served from theirs until the routes name a ranker of the new one.

    Returns:
        rows written, rows left as they were (those of an engine that wrote first among them), and rows
        kept because the store had newer ones, per table.

    Raises:
        UserError: the store's configuration does not resolve, or the features are of a former version.
        RuntimeError: a row in the store is not what was written.
    """
    lineage = read_lineage(features)
    space = lineage.labels["space"]
    write_store_file(store, config)
    feature_store = open_store(store)
    if (dim := lineage.labels.get("vector_dim")) is None:
        raise UserError(
            f"the features in {features} were built by a former version; run the build_features step again"
        )
    # Zero is unlimited for Feast.
    ttl = timedelta(days=config.ttl_days or 0)
    views = define_feature_views(features.resolve(), space=space, ttl=ttl, dim=dim)
    feature_store.apply([USER, ITEM, *views, *define_base_services(views)])
    offline_tables = (
        OfflineTable(features / "user_behaviors.parquet", "user_behaviors", "user_id", pushed=True),
        OfflineTable(features / "inferred_behaviors.parquet", "inferred_behaviors", "user_id"),
        OfflineTable(features / "items.parquet", "items", "item_id"),
        OfflineTable(features / "item_knowledge.parquet", knowledge_view_name(space), "item_id"),
    )
    if config.engine == "ray":
        write_views_by_ray(store, [table.view for table in offline_tables], workers=config.processes)
    row_counts: dict[str, float] = {}
    table_digests = {}
    with _open_pool(config) as pool:
        for table in offline_tables:
            batches = fill_view(store, table, config, pool=pool)
            for outcome in _OUTCOMES:
                row_counts[f"{table.path.stem}_{outcome}"] = sum(getattr(batch, outcome) for batch in batches)
            whole_digest = hashlib.sha256(b"".join(batch.digest for batch in batches))
            table_digests[table.path.stem] = whole_digest.hexdigest()
    has_query_encoder = install_query_encoder(features, store, space)
    store_description = {
        "space": space,
        "query_encoder": has_query_encoder,
        "features": lineage.digest,
        "history_length": config.history_length,
        "rows": row_counts,
        "digests": table_digests,
        "materialized_at": datetime.now(UTC).isoformat(),
    }
    write_json(store / MATERIALIZED_FILE, store_description)
    return row_counts


def read_history_length(store: Path) -> int:
    """Reads how many behaviors the store keeps of a user, as it was last filled."""
    try:
        store_description = json.loads((store / MATERIALIZED_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        store_description = {}
    return int(store_description.get("history_length", FeatureStoreConfig().history_length))


def _open_pool(config: FeatureStoreConfig) -> AbstractContextManager[Executor | None]:
    if config.processes == 1:
        return nullcontext()
    return ProcessPoolExecutor(config.processes, mp_context=get_context("spawn"))


def fill_view(
    store: Path, table: OfflineTable, config: FeatureStoreConfig, *, pool: Executor | None = None
) -> list[BatchOutcome]:
    """Writes a table into its view and returns the outcome of each batch, in order.

    Args:
        store: the store's folder.
        table: what is written where.
        config: settings.
        pool: does the shards at once; by default this process does them one after the other.
    """
    map_shards = pool.map if pool else map
    shard_outcomes = map_shards(partial(_fill_shard, store, table, config), range(config.processes))
    return sorted(outcome for outcomes in shard_outcomes for outcome in outcomes)


def _fill_shard(
    store: Path, table: OfflineTable, config: FeatureStoreConfig, shard: int
) -> list[BatchOutcome]:
    view = open_view(open_store(store, overwrite_newer=True), table.view)
    batches = _iter_newest_rows(table, config.batch_rows, shard=shard, num_shards=config.processes)
    return [_fill_batch(view, number, batch, keep_newer=table.pushed) for number, batch in batches]


def _iter_newest_rows(
    table: OfflineTable, batch_rows: int, *, shard: int, num_shards: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yields the newest row of each key, in one pass over the file.

    A batch holds the newest ones of `batch_rows` rows of the file. Every n-th batch is this shard's.
    Empty ones are left out.
    """
    key_times = pl.read_parquet(table.path, columns=[table.key, TIMESTAMP]).with_row_index("row")
    newest_rows = key_times.sort(TIMESTAMP, "row").group_by(table.key).agg(pl.col("row").last())["row"]
    is_newest = key_times["row"].is_in(newest_rows.implode())
    first_row = 0
    for number, batch in enumerate(pq.ParquetFile(table.path).iter_batches(batch_rows)):
        is_newest_in_batch = is_newest.slice(first_row, batch.num_rows)
        first_row += batch.num_rows
        if number % num_shards == shard and is_newest_in_batch.any():
            yield number, pl.DataFrame(batch).filter(is_newest_in_batch)


def _fill_batch(
    view: FeastView | RedisView, number: int, batch: pl.DataFrame, *, keep_newer: bool
) -> BatchOutcome:
    rows = view.encode_frame(batch)
    is_newer = is_same = [False] * len(rows)
    if keep_newer or _holds_any(view, rows):
        stored_rows = view.read_rows(rows.keys)
        is_newer = _are_newer(stored_rows, rows) if keep_newer else is_newer
        is_same = rows.are_stored_in(stored_rows)
    due_rows = rows.select_rows([not (newer or same) for newer, same in zip(is_newer, is_same, strict=True)])
    view.write_rows(due_rows)
    _verify_rows(view, due_rows, keep_newer=keep_newer)
    num_unchanged = len(rows) - len(due_rows) - sum(is_newer)
    return BatchOutcome(number, len(due_rows), num_unchanged, sum(is_newer), rows.digest_rows())


def _holds_any(view: FeastView | RedisView, rows: OnlineRows) -> bool:
    """Tells whether the store holds one of a few of these rows."""
    # A first fill writes all without comparing.
    probed_rows = view.read_rows(rows.keys[:: -(-len(rows) // _NUM_PROBED_ROWS)])
    return any(time is not None for time in probed_rows.times_us)


def _verify_rows(view: FeastView | RedisView, rows: OnlineRows, *, keep_newer: bool) -> None:
    stored_rows = view.read_rows(rows.keys)
    has_arrived = rows.are_stored_in(stored_rows)
    if keep_newer:  # what was pushed since our write has taken its place
        has_arrived = [
            arrived or newer
            for arrived, newer in zip(has_arrived, _are_newer(stored_rows, rows), strict=True)
        ]
    if not all(has_arrived):
        raise RuntimeError(
            f"{has_arrived.count(False)} of {len(rows)} rows of '{view.name}' are not in the online store as "
            f"they were written, first: {rows.keys[has_arrived.index(False)]}"
        )


def _are_newer(stored_rows: OnlineRows, rows: OnlineRows) -> list[bool]:
    time_pairs = zip(stored_rows.times_us, rows.times_us, strict=True)
    return [
        stored_time is not None and time is not None and stored_time - time > _CLOCK_TOLERANCE_US
        for stored_time, time in time_pairs
    ]
