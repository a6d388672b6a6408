"""Reads the user's catalogue and log, and what was served since, into the dataset artifact."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def ingest(
    config: str,
    data_digest: str,
    served_digest: str,
    workspace: str,
    code_version: str,
    dataset: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Reads, validates and divides history and served log; broken rows are quarantined with their reasons.

    Args:
        config: JSON of `contracts.ingestion.config.DataConfig`.
        data_digest: digest of the files that it names; part of the cache key.
        served_digest: state of the served log, from `collect_log`; empty where nothing was served.
        workspace: folder that outlives the step; the served log lies in it.
        code_version: version of the library; part of the cache key.
        dataset: catalogue, log, split and quarantine.
        metrics: rows accepted and quarantined.

    Returns:
        Address of the artifact `dataset`, for the record of the deployment.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from contracts.ingestion.config import DataConfig
    from contracts.ingestion.ingest import ingest_dataset as run
    from contracts.served_log import SERVED_LOG_FOLDER

    run(
        DataConfig.model_validate_json(config),
        out=Path(dataset.path),
        served_log=Path(workspace) / SERVED_LOG_FOLDER,
        served_digest=served_digest,
    )
    log_lineage(dataset, metrics)
    return str(dataset.uri)
