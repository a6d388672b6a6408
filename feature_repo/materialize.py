"""Materialization: the newest value of every feature goes into the online store, and is read back.

A row is written unless the online store already holds a newer one (an event pushed while serving); a row of the same
time is written again, so a repeated or repaired run takes effect. Feast's own writers do neither: Redis' skips rows of
equal time, SQLite's overwrites newer ones.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
from feast import FeatureStore

from contracts.artifacts import read_lineage, write_json
from contracts.schema import UTC_TIME
from feature_repo.config import FeatureConfig
from feature_repo.store import open_store, write_store_file
from feature_repo.views import TIMESTAMP, base_services, entities, feature_views, knowledge_view_name

MATERIALIZED_FILE: Final = "materialized.json"
"""What the store holds; its change tells running readers to forget what they cached."""


class _Target(NamedTuple):
    """One table and the view it goes into."""

    table: str
    view: str
    key: str
    probe: str
    """Feature that every row has."""
    pushed: bool = False
    """Is the view also written while serving? Then `probe` is the time of its rows."""


def materialize_features(features: Path, config: FeatureConfig, *, store: Path) -> dict[str, float]:
    """Registers the Feast objects in `store` and fills its online store.

    Returns:
        rows written, rows kept because the store had newer ones, and rows verified, per view.

    Raises:
        UserError: the store's configuration does not resolve.
        RuntimeError: a row is not there after the write.
    """
    lineage = read_lineage(features)
    space = lineage.labels["space"]
    write_store_file(store, config)
    feast = open_store(store, overwrite_newer=True)
    views = feature_views(features.resolve(), space=space, ttl=config.ttl)
    feast.apply([*entities(), *views, *base_services(views)])
    counts: dict[str, float] = {}
    for target in _targets(space):
        counts |= _materialize_view(feast, features, target, config.batch_rows)
    description = {"space": space, "features": lineage.digest, "history_length": config.history_length, "rows": counts}
    write_json(store / MATERIALIZED_FILE, description | {"materialized_at": datetime.now(UTC).isoformat()})
    return counts


def history_length_of(store: Path) -> int:
    """Behaviours that the store keeps of a user, as it was last filled."""
    try:
        found = json.loads((store / MATERIALIZED_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = {}
    return int(found.get("history_length", FeatureConfig().history_length))


def _targets(space: str) -> tuple[_Target, ...]:
    return (
        _Target("user_behaviors", "user_behaviors", "user_id", "history_as_of", pushed=True),
        _Target("inferred_behaviors", "inferred_behaviors", "user_id", "inferred_as_of"),
        _Target("items", "items", "item_id", "item_as_of"),
        _Target("item_knowledge", knowledge_view_name(space), "item_id", "item_space"),
    )


def _materialize_view(feast: FeatureStore, features: Path, target: _Target, batch_rows: int) -> dict[str, float]:
    written = kept = 0
    for batch in iter_latest(features / f"{target.table}.parquet", target.key, batch_rows):
        due = _not_newer_online(feast, target, batch)
        written, kept = written + len(due), kept + len(batch) - len(due)
        if len(due):
            feast.write_to_online_store(target.view, df=due.to_pandas())
        _verify(feast, target, batch[target.key])
    return {f"{target.table}_written": written, f"{target.table}_kept": kept}


def iter_latest(path: Path, key: str, batch_rows: int) -> Iterator[pl.DataFrame]:
    """Yields the newest row of each key, at most `batch_rows` at a time, reading only the row groups it needs."""
    keys = pl.read_parquet(path, columns=[key, TIMESTAMP]).with_row_index("row")
    rows = keys.sort(TIMESTAMP, "row").group_by(key).agg(pl.col("row").last())["row"].sort()
    for first in range(0, len(rows), batch_rows):
        wanted = rows.slice(first, batch_rows)
        start = int(wanted[0])
        yield pl.scan_parquet(path).slice(start, int(wanted[-1]) - start + 1).collect()[(wanted - start).to_list()]


def _not_newer_online(feast: FeatureStore, target: _Target, batch: pl.DataFrame) -> pl.DataFrame:
    if not target.pushed:
        return batch
    stored = pl.Series(_probe(feast, target, batch[target.key]), dtype=UTC_TIME)
    return batch.filter((stored <= batch[TIMESTAMP]).fill_null(True))


def _verify(feast: FeatureStore, target: _Target, keys: pl.Series) -> None:
    found = _probe(feast, target, keys)
    if missing := [key for key, value in zip(keys, found, strict=True) if value is None]:
        raise RuntimeError(
            f"{len(missing)} of {len(keys)} rows of '{target.view}' are not in the online store after the write, "
            f"first: {missing[0]}"
        )


def _probe(feast: FeatureStore, target: _Target, keys: pl.Series) -> list[Any]:
    response = feast.get_online_features(
        features=[f"{target.view}:{target.probe}"], entity_rows={target.key: keys.to_list()}
    )
    return list(response.to_dict()[target.probe])
