"""Reads back what was shown and what users did with it."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def collect_traffic(
    items: dsl.Input[dsl.Dataset],
    item_embeddings: dsl.Input[dsl.Dataset],
    features: dsl.Input[dsl.Dataset],
    evaluation: dsl.Input[dsl.Dataset],
    config: str,
    event_log_config: str,
    workspace: str,
    traffic: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Turns the gateway's event log into tables, and both windows into what the ranker saw; never cached.

    Args:
        items: the dataset artifact that holds the catalogue.
        item_embeddings: the item embeddings in service.
        features: the offline feature tables.
        evaluation: the evaluation of the ranker in service; its lists are the first reference.
        config: JSON of `monitoring.config.MonitoringConfig`.
        event_log_config: JSON of `serving.config.EventLogConfig`: which events are one that was sent again.
        workspace: folder that outlives the step; the event log and the references of drift lie in it.
        traffic: exposures, outcomes, and the serving features of reference and current window.
        metrics: rows of each.
    """
    from pathlib import Path

    from components.served_traffic import REFERENCES_FOLDER
    from components.served_traffic import collect_traffic as run
    from components.step_support import log_lineage
    from monitoring.config import MonitoringConfig
    from serving.config import EventLogConfig

    run(
        Path(items.path),
        Path(item_embeddings.path),
        Path(features.path),
        Path(evaluation.path),
        MonitoringConfig.model_validate_json(config),
        state=Path(workspace) / "serving",
        repeats=EventLogConfig.model_validate_json(event_log_config).repeats,
        references=Path(workspace) / REFERENCES_FOLDER,
        out=Path(traffic.path),
    )
    log_lineage(traffic, metrics)
