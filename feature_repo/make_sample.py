"""Writes `sample_data/`, the tiny tables that `feast apply` in this folder registers.

python -m feature_repo.make_sample
"""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from contracts.artifacts import create_artifact, write_table, write_text
from contracts.dataset import EVENT_SORT_COLUMNS, Split
from contracts.table_schema import Table
from contracts.tables import EVENTS, INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, ITEMS
from feature_repo.config import FeatureStoreConfig
from feature_repo.offline.build_features import build_features

_START = datetime(2026, 1, 1, tzinfo=UTC)
_END = _START + timedelta(days=10)
_TITLES = ("Espresso machine", "Milk frother", "Trail shoes", "Rain jacket", "Desk lamp", "Office chair")
_VECTORS = (
    (1.0, 0.0, 0.0),
    (0.8, 0.6, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.8, 0.6),
    (0.0, 0.0, 1.0),
    (0.6, 0.0, 0.8),
)
_SPACE = "sample-space"


def write_sample_features(out: Path) -> None:
    """Writes the feature tables of a shop of six items and three users."""
    with tempfile.TemporaryDirectory() as scratch:
        build_features(*write_sample_inputs(Path(scratch)), FeatureStoreConfig(), out=out)


def write_sample_inputs(root: Path) -> tuple[Path, Path, Path]:
    """Writes the sample shop's artifacts: dataset, item embeddings, inferred behaviors."""
    _write_dataset(root / "dataset")
    _write_table_artifact("item_embeddings", ITEM_EMBEDDINGS, _build_embeddings(), root)
    _write_table_artifact("inferred_behaviors", INFERRED_BEHAVIORS, _build_inferred_behaviors(), root)
    return root / "dataset", root / "item_embeddings", root / "inferred_behaviors"


def _list_item_ids() -> pl.Series:
    return pl.select(pl.format("item_{}", pl.int_range(len(_TITLES)))).to_series()


def _write_dataset(out: Path) -> None:
    items = pl.DataFrame(
        {"item_id": _list_item_ids(), "title": _TITLES, "category": "Home > All", "brand": "Acme"}
    )
    number = pl.int_range(18)
    events = pl.select(
        user_id=pl.format("user_{}", number % 3),
        timestamp=_START + pl.duration(hours=number * 12),
        item_id=pl.format("item_{}", (number * 5 + number // 6) % len(_TITLES)),
        event_type=pl.when(number % 4 == 3).then(pl.lit("order")).otherwise(pl.lit("click")),
    )
    split = Split(train_end=_END - timedelta(days=3), validation_end=_END - timedelta(days=2), cutoff=_END)
    with create_artifact(out, kind="dataset", inputs={}) as artifact:
        write_table(
            artifact.path / "items.parquet", ITEMS, items.with_columns(price=pl.int_range(pl.len()) * 10.0)
        )
        write_table(artifact.path / "events.parquet", EVENTS, events.sort(EVENT_SORT_COLUMNS))
        write_text(artifact.path / "split.json", split.model_dump_json())


def _build_embeddings() -> pl.DataFrame:
    codes = [[index // 2, index % 2] for index in range(len(_TITLES))]
    return pl.DataFrame(
        {"item_id": _list_item_ids(), "embedding": _VECTORS, "semantic_id": codes}
    ).with_columns(space=pl.lit(_SPACE), event_timestamp=pl.lit(_START))


def _build_inferred_behaviors() -> pl.DataFrame:
    return pl.select(user_id=pl.format("user_{}", pl.int_range(3))).with_columns(
        inferred_item_ids=pl.lit(["item_4", "item_1"]),
        inferred_scores=pl.lit([0.9, 0.4]),
        behavior_model_version=pl.lit("sample"),
        space=pl.lit(_SPACE),
        event_timestamp=pl.lit(_START + timedelta(days=5)),
    )


def _write_table_artifact(name: str, table: Table, frame: pl.DataFrame, root: Path) -> None:
    with create_artifact(root / name, kind=name, inputs={}) as artifact:
        write_table(artifact.path / f"{name}.parquet", table, frame)


if __name__ == "__main__":
    write_sample_features(Path(__file__).parent / "sample_data")
