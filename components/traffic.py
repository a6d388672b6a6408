"""Glue of two rooms that do not know each other: the gateway's log (serving) becomes what monitoring compares."""

from pathlib import Path

import polars as pl

from contracts.artifacts import new_artifact, read_table, write_table
from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.tables import EXPOSURES, ITEM_EMBEDDINGS, OUTCOMES
from models.ranker.reference import REFERENCE_FILE
from models.ranker.spec import model_name_of
from monitoring.config import MonitoringConfig
from monitoring.features import SERVING_FEATURES, feature_frame
from serving.event_tables import read_exposures, read_outcomes
from serving.routes import Routes, read_routes


def collect_traffic(
    dataset: Path,
    item_embeddings: Path,
    features: Path,
    evaluation: Path,
    config: MonitoringConfig,
    *,
    state: Path,
    out: Path,
) -> None:
    """Writes `exposures`, `outcomes`, and the serving features `reference` and `current` (Parquet).

    Args:
        dataset: dataset artifact with the catalogue.
        item_embeddings: item embeddings in service.
        features: offline feature tables.
        evaluation: evaluation of the ranker in service; its scored test lists are the reference window.
        config: monitoring's configuration.
        state: serving's folder; what its event log holds of the rankers now routed is the current window.
        out: the artifact to write.

    Raises:
        UserError: no experiment is running, or nobody was routed to its rankers yet.
    """
    exposures = in_service(read_exposures(state / "events", only_drawn=True), read_routes(state))
    outcomes = read_outcomes(state / "events").join(exposures, on=["request_id", "item_id"], how="semi")
    inputs = {"dataset": dataset, "item_embeddings": item_embeddings, "features": features, "evaluation": evaluation}
    with new_artifact(out, kind="traffic", inputs=inputs) as artifact:
        write_table(artifact.path / "exposures.parquet", EXPOSURES, exposures)
        write_table(artifact.path / "outcomes.parquet", OUTCOMES, outcomes)
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


def in_service(exposures: pl.DataFrame, routes: Routes) -> pl.DataFrame:
    """What was shown for the rankers of the running experiment; earlier experiments used the same names of arms.

    Raises:
        UserError: no experiment is running, or nobody was routed to its rankers yet.
    """
    if len(routes.arms) < 2:
        raise UserError(f"no experiment is running: all see {', '.join(routes.models)}; deploy a challenger first")
    # By whom they were routed to, not who scored: what a ranker left to the fallback counts for its arm.
    models = {version: model_name_of(version) for version in exposures["routed_version"].unique()}
    shown = exposures.filter(pl.col("routed_version").replace(models).is_in(routes.models))
    if shown.is_empty():
        raise UserError("nobody was routed to the running experiment's rankers yet; send requests to the gateway first")
    return shown
