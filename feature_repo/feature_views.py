"""The Feast objects: entities, feature views and feature services.

Feature names are unique across all views: a Feast service cannot hold two features of one name. The view of
item knowledge carries its embedding space in its name. So old and new space lie side by side, and a ranker
reads its own.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, Bytes, Float32, Float64, Int64, String, UnixTimestamp

USER: Final = Entity(
    name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="A shopper."
)
ITEM: Final = Entity(
    name="item", join_keys=["item_id"], value_type=ValueType.STRING, description="A product."
)

TIMESTAMP: Final = "event_timestamp"
BASE_SERVICE: Final = "ranker_v1"
TRAINING_SERVICE: Final = "ranker_v1_training"
"""Which rows of the user views a ranking list may see: the latest ones before it."""

# Feast's point-in-time join returns no time of the joined row, so each user view has it as a feature, too.
_VIEW_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "user_behaviors": {
        "history_item_ids": Array(String),
        "history_event_types": Array(String),
        "history_ages_s": Array(Int64),
        # No ranker reads them: they keep online histories in the order of the offline ones.
        "history_micros": Array(Int64),
        "history_as_of": UnixTimestamp,
    },
    "inferred_behaviors": {
        "inferred_item_ids": Array(String),
        "inferred_scores": Array(Float32),
        "behavior_model_version": String,
        "inferred_space": String,
        "inferred_as_of": UnixTimestamp,
    },
    "items": {
        "item_category": String,
        "item_brand": String,
        "item_price": Float64,
        "item_as_of": UnixTimestamp,
    },
    "item_knowledge": {"item_vector": Bytes, "item_semantic_id": Array(Int64), "item_space": String},
}
AS_OF_FEATURES: Final = {"user_behaviors": "history_as_of", "inferred_behaviors": "inferred_as_of"}
"""User view -> its feature that holds the time of the row."""
USER_VIEWS: Final = tuple(AS_OF_FEATURES)


def knowledge_view_name(space: str) -> str:
    """Name of the view that holds the item vectors of an embedding space."""
    return f"item_knowledge_{re.sub(r'[^a-z0-9]+', '_', space.lower())}"


def define_feature_views(tables: Path, *, space: str, ttl: timedelta, dim: str = "") -> list[FeatureView]:
    """Defines the views over the Parquet files of a features artifact.

    Args:
        tables: folder with a Parquet file for each of `_VIEW_FIELDS`.
        space: embedding space of `item_knowledge.parquet`.
        ttl: how long an online value of a user counts; zero is for ever. Items do not age.
        dim: length of the item vectors, which a ranker's deployment is checked against; not known by default.
    """
    tags = {"space": space, "dim": dim}
    return [_define_feature_view(tables, table, ttl=ttl, tags=tags) for table in _VIEW_FIELDS]


def define_base_services(views: Sequence[FeatureView]) -> list[FeatureService]:
    """Defines the services that do not depend on a trained ranker."""
    user_time_views = [view[[AS_OF_FEATURES[view.name]]] for view in views if view.name in USER_VIEWS]
    return [
        FeatureService(name=BASE_SERVICE, features=list(views), description="All that a ranker may read."),
        FeatureService(
            name=TRAINING_SERVICE, features=user_time_views, description="For point-in-time joins."
        ),
    ]


def _define_feature_view(tables: Path, table: str, *, ttl: timedelta, tags: dict[str, str]) -> FeatureView:
    has_vectors = table == "item_knowledge"
    view_name = knowledge_view_name(tags["space"]) if has_vectors else table
    is_user_view = table in USER_VIEWS
    entity, join_key = (USER, "user_id") if is_user_view else (ITEM, "item_id")
    file_source = FileSource(
        name=f"{view_name}_source",
        path=str(tables / f"{table}.parquet"),
        file_format=ParquetFormat(),
        timestamp_field=TIMESTAMP,
    )
    fields = [Field(name=field, dtype=dtype) for field, dtype in _VIEW_FIELDS[table].items()]
    return FeatureView(
        name=view_name,
        entities=[entity],
        ttl=ttl if is_user_view else timedelta(0),
        schema=[Field(name=join_key, dtype=String), *fields],
        source=file_source,
        tags={tag: value for tag, value in tags.items() if value and has_vectors},
    )
