"""The tables of the features artifact: contracts of what Feast reads.

Their columns bear the names of Feast's features, which are unique across all views.
"""

from typing import Final

import polars as pl

from contracts.table_schema import UTC_TIME, Column, Table
from contracts.tables import INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, ITEMS, USER_BEHAVIORS

_AS_OF: Final = "`event_timestamp` again, as a feature: a join returns no time of the row that it took."


def _rename_column(table: Table, column_name: str, new_name: str) -> Column:
    (column,) = (column for column in table.columns if column.name == column_name)
    return Column(new_name, column.dtype, column.doc, column.nullable)


USER_BEHAVIOR_FEATURES: Final = Table(
    "user_behavior_features",
    USER_BEHAVIORS.key,
    (*USER_BEHAVIORS.columns, Column("history_as_of", UTC_TIME, _AS_OF)),
    "A user's last behaviors after each moment at which they did something.",
)
INFERRED_BEHAVIOR_FEATURES: Final = Table(
    "inferred_behavior_features",
    INFERRED_BEHAVIORS.key,
    (
        *(
            _rename_column(INFERRED_BEHAVIORS, name, "inferred_space" if name == "space" else name)
            for name in INFERRED_BEHAVIORS.schema
        ),
        Column("inferred_as_of", UTC_TIME, _AS_OF),
    ),
    "Behaviors that the log does not hold, one row per user and snapshot.",
)
ITEM_FEATURES: Final = Table(
    "item_features",
    ("item_id",),
    (
        _rename_column(ITEMS, "item_id", "item_id"),
        _rename_column(ITEMS, "category", "item_category"),
        _rename_column(ITEMS, "brand", "item_brand"),
        _rename_column(ITEMS, "price", "item_price"),
        _rename_column(ITEM_EMBEDDINGS, "event_timestamp", "event_timestamp"),
        Column("item_as_of", UTC_TIME, _AS_OF),
    ),
    "What the catalogue says of an item, one row per item.",
)
ITEM_VECTORS: Final = Table(
    "item_vectors",
    ("item_id",),
    (
        _rename_column(ITEM_EMBEDDINGS, "item_id", "item_id"),
        _rename_column(ITEM_EMBEDDINGS, "event_timestamp", "event_timestamp"),
        _rename_column(ITEM_EMBEDDINGS, "space", "item_space"),
        Column("item_semantic_id", pl.List(pl.Int64()), "One code per level, unique per item."),
        Column("item_vector", pl.Binary(), "The item's embedding: raw half floats."),
    ),
    "Item representations as they are served, one row per item.",
)
