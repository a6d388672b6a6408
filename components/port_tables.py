"""Which tables lie in the artifacts that components read and write: the columns of a component's contract.

The tables themselves stand in `contracts/` and in the rooms. Component pages show them, and a test holds
the artifacts of whole runs to them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from contracts.artifacts import read_lineage
from contracts.ingestion.rows.quarantine import QUARANTINE
from contracts.served_log import SERVED_EVENTS
from contracts.table_schema import Table
from contracts.tables import (
    ANSWERS,
    EVENTS,
    EXPOSURES,
    INFERRED_BEHAVIORS,
    ITEM_EMBEDDINGS,
    ITEMS,
    KNOWLEDGE,
    OUTCOMES,
    RANKING_LISTS,
    TRAINING_SET,
)
from feature_repo.offline.feature_tables import (
    INFERRED_BEHAVIOR_FEATURES,
    ITEM_FEATURES,
    ITEM_VECTORS,
    USER_BEHAVIOR_FEATURES,
)
from models.knowledge.distillation.item_batches import UNANSWERED_ITEMS
from monitoring.drift.served_features import SERVING_FEATURES
from serving.event_log.log_tables import TEAMS


class TableFile(NamedTuple):
    """A Parquet file of an artifact."""

    pattern: str
    """Its path in the artifact's folder; a star stands for any name."""
    table: Table
    is_optional: bool = False
    """The artifact is whole without it."""


_KNOWLEDGE: Final = (
    TableFile("knowledge.parquet", KNOWLEDGE),
    TableFile("quarantine.parquet", UNANSWERED_ITEMS, is_optional=True),
)
KIND_TABLES: Final[Mapping[str, tuple[TableFile, ...]]] = {
    "shop": (TableFile("items.parquet", ITEMS), TableFile("events.parquet", EVENTS)),
    "dataset": (
        TableFile("items.parquet", ITEMS),
        TableFile("events.parquet", EVENTS),
        TableFile("quarantine.parquet", QUARANTINE),
    ),
    "served_log": (TableFile("day=*/events.parquet", SERVED_EVENTS, is_optional=True),),
    "knowledge": _KNOWLEDGE,
    "knowledge_shard": _KNOWLEDGE,
    "item_embeddings": (TableFile("item_embeddings.parquet", ITEM_EMBEDDINGS),),
    "inferred_behaviors": (TableFile("inferred_behaviors.parquet", INFERRED_BEHAVIORS),),
    "inferred_behaviors_shard": (TableFile("parts/*.parquet", INFERRED_BEHAVIORS, is_optional=True),),
    "features": (
        TableFile("user_behaviors.parquet", USER_BEHAVIOR_FEATURES),
        TableFile("inferred_behaviors.parquet", INFERRED_BEHAVIOR_FEATURES),
        TableFile("items.parquet", ITEM_FEATURES),
        TableFile("item_knowledge.parquet", ITEM_VECTORS),
    ),
    "ranking_lists": (TableFile("ranking_lists.parquet", RANKING_LISTS),),
    "training_set": (TableFile("training_set.parquet", TRAINING_SET),),
    "evaluation": (TableFile("reference.parquet", EXPOSURES),),
    "traffic": (
        TableFile("exposures.parquet", EXPOSURES),
        TableFile("outcomes.parquet", OUTCOMES),
        TableFile("answers.parquet", ANSWERS),
        TableFile("events.parquet", EVENTS),
        TableFile("history.parquet", EVENTS),
        TableFile("reference.parquet", SERVING_FEATURES),
        TableFile("current.parquet", SERVING_FEATURES),
        TableFile("teams.parquet", TEAMS, is_optional=True),
    ),
    "drift_report": (),
    "lift_report": (),
    "decision": (),
    "dashboard": (),
}
"""Kind of artifact, as its lineage names it -> the tables in it. Models are no tables: they are not here."""

PORT_KINDS: Final[Mapping[str, str]] = {
    "collect_traffic.items": "dataset",
    "distill_changed_items.previous": "knowledge",
    "distill_changed_items.knowledge": "knowledge_shard",
    "distill_knowledge.knowledge": "knowledge_shard",
    "embed_new_items.space": "item_embeddings",
    "infer_behaviors.inferred_behaviors": "inferred_behaviors_shard",
    "merge_inferred.shards": "inferred_behaviors_shard",
    "merge_knowledge.shards": "knowledge_shard",
    "build_training_set.lists": "ranking_lists",
    **{f"{name}.drift": "drift_report" for name in ("report_drift", "decide", "publish_dashboard")},
    **{f"{name}.lift": "lift_report" for name in ("report_lift", "decide", "publish_dashboard")},
}
"""`component.port` -> kind, where the port does not bear the kind's name."""


class WorkspaceFolder(NamedTuple):
    """A folder of the workspace whose tables a component reads or writes; no artifact of a run."""

    folder: str
    kind: str
    is_written: bool


WORKSPACE_FOLDERS: Final[Mapping[str, WorkspaceFolder]] = {
    "simulate_shop": WorkspaceFolder("shop", "shop", is_written=True),
    "collect_log": WorkspaceFolder("served_log", "served_log", is_written=True),
    "ingest": WorkspaceFolder("served_log", "served_log", is_written=False),
}


def find_port_tables(component: str, port: str) -> tuple[TableFile, ...]:
    """The tables that come in or go out by an artifact port.

    Raises:
        KeyError: nobody said what artifact comes by this port.
    """
    return KIND_TABLES[PORT_KINDS.get(f"{component}.{port}", port)]


def list_table_faults(folder: Path) -> Iterator[str]:
    """Says in what an artifact's Parquet files are not what its kind promises.

    Raises:
        KeyError: nobody said what an artifact of this kind holds.
    """
    table_files = KIND_TABLES[read_lineage(folder).kind]
    unexplained = {path for path in folder.rglob("*.parquet") if path.parent.name != "truth"}
    for table_file in table_files:
        paths = sorted(folder.glob(table_file.pattern))
        if not paths and not table_file.is_optional:
            yield f"{folder.name}: no {table_file.pattern}"
        for path in paths:
            unexplained.discard(path)
            if (found := pl.read_parquet_schema(path)) != table_file.table.schema:
                yield f"{path}: {found} is not {table_file.table.schema}"
    yield from (f"{path}: belongs to no table of its kind" for path in sorted(unexplained))
