"""Glue of two rooms that do not know each other: the gateway's log (serving) becomes what monitoring compares."""

from pathlib import Path

import polars as pl

from contracts.artifacts import new_artifact, read_table, write_table
from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.tables import EXPOSURES, ITEM_EMBEDDINGS, OUTCOMES
from models.ranker.reference import REFERENCE_FILE
from monitoring.config import MonitoringConfig
from monitoring.features import SERVING_FEATURES, feature_frame
from serving.event_tables import read_exposures, read_outcomes


def collect_traffic(
    dataset: Path,
    item_embeddings: Path,
    features: Path,
    evaluation: Path,
    config: MonitoringConfig,
    *,
    events: Path,
    out: Path,
) -> None:
    """Writes `exposures`, `outcomes`, and the serving features `reference` and `current` (Parquet).

    Args:
        dataset: dataset artifact with the catalogue.
        item_embeddings: item embeddings in service.
        features: offline feature tables.
        evaluation: evaluation of the ranker in service; its scored test lists are the reference window.
        config: monitoring's configuration.
        events: folder of the gateway's event log; what it holds is the current window.
        out: the artifact to write.

    Raises:
        UserError: the log holds no exposure.
    """
    exposures = read_exposures(events)
    if exposures.is_empty():
        raise UserError(f"no exposure in {events}: nothing was ranked yet; send requests to the gateway first")
    inputs = {"dataset": dataset, "item_embeddings": item_embeddings, "features": features, "evaluation": evaluation}
    with new_artifact(out, kind="traffic", inputs=inputs) as artifact:
        write_table(artifact.path / "exposures.parquet", EXPOSURES, exposures)
        write_table(artifact.path / "outcomes.parquet", OUTCOMES, read_outcomes(events))
        windows = {"reference": read_table(evaluation / REFERENCE_FILE, EXPOSURES), "current": exposures}
        for name, shown in windows.items():
            seen = feature_frame(
                shown,
                config,
                items=read_dataset(dataset).items,
                item_embeddings=read_table(item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS),
                user_behaviors=pl.read_parquet(features / "user_behaviors.parquet"),
                inferred_behaviors=pl.read_parquet(features / "inferred_behaviors.parquet"),
            )
            write_table(artifact.path / f"{name}.parquet", SERVING_FEATURES, seen)
            artifact.metrics[f"{name}_rows"] = len(seen)
