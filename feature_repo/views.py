"""The Feast objects: entities, feature views and feature services.

Feature names are unique across all views, since Feast services cannot hold two features of one name. The view of item
knowledge carries its embedding space in its name, so old and new space lie side by side and a ranker reads its own.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, Bytes, Float32, Float64, Int64, String, UnixTimestamp

USER: Final = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="A shopper.")
ITEM: Final = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING, description="A product.")

TIMESTAMP: Final = "event_timestamp"
TABLE_FILES: Final = ("user_behaviors.parquet", "inferred_behaviors.parquet", "items.parquet", "item_knowledge.parquet")
BASE_SERVICE: Final = "ranker_v1"
TRAINING_SERVICE: Final = "ranker_v1_training"
"""Which rows of the user views a ranking list may see: the latest ones before it."""

_VIEW_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "user_behaviors": {
        "history_item_ids": Array(String),
        "history_event_types": Array(String),
        "history_ages_s": Array(Int64),
        "history_as_of": UnixTimestamp,
    },
    "inferred_behaviors": {
        "inferred_item_ids": Array(String),
        "inferred_scores": Array(Float32),
        "behavior_model_version": String,
        "inferred_space": String,
        "inferred_as_of": UnixTimestamp,
    },
    "items": {"item_category": String, "item_brand": String, "item_price": Float64, "item_as_of": UnixTimestamp},
    "item_knowledge": {"item_vector": Bytes, "item_semantic_id": Array(Int64), "item_space": String},
}
AS_OF_FEATURES: Final = {"user_behaviors": "history_as_of", "inferred_behaviors": "inferred_as_of"}
"""User view -> its feature that holds the time of the row."""
USER_VIEWS: Final = tuple(AS_OF_FEATURES)


def knowledge_view_name(space: str) -> str:
    """Name of the view that holds the item vectors of an embedding space."""
    return f"item_knowledge_{re.sub(r'[^a-z0-9]+', '_', space.lower())}"


def feature_views(tables: Path, *, space: str, ttl: timedelta, dim: str = "") -> list[FeatureView]:
    """The views over the Parquet files of a features artifact.

    Args:
        tables: folder with the files of `TABLE_FILES`.
        space: embedding space of `item_knowledge.parquet`.
        ttl: how long an online value of a user counts; zero is for ever. Items do not age.
        dim: length of the item vectors, which a ranker's deployment is checked against; not known by default.
    """
    return [_view(tables, table, ttl=ttl, tags={"space": space, "dim": dim}) for table in _VIEW_FIELDS]


def base_services(views: Sequence[FeatureView]) -> list[FeatureService]:
    """The services that do not depend on a trained ranker."""
    users = [view[[AS_OF_FEATURES[view.name]]] for view in views if view.name in USER_VIEWS]
    return [
        FeatureService(name=BASE_SERVICE, features=list(views), description="All that a ranker may read."),
        FeatureService(name=TRAINING_SERVICE, features=users, description="For point-in-time joins."),
    ]


def entities() -> list[Entity]:
    """Users and items."""
    return [USER, ITEM]


def _view(tables: Path, table: str, *, ttl: timedelta, tags: dict[str, str]) -> FeatureView:
    has_vectors = table == "item_knowledge"
    name = knowledge_view_name(tags["space"]) if has_vectors else table
    of_user = table in USER_VIEWS
    entity, key = (USER, "user_id") if of_user else (ITEM, "item_id")
    source = FileSource(
        name=f"{name}_source",
        path=str(tables / f"{table}.parquet"),
        file_format=ParquetFormat(),
        timestamp_field=TIMESTAMP,
    )
    fields = [Field(name=field, dtype=dtype) for field, dtype in _VIEW_FIELDS[table].items()]
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=ttl if of_user else timedelta(0),
        schema=[Field(name=key, dtype=String), *fields],
        source=source,
        tags={key: value for key, value in tags.items() if value and has_vectors},
    )
