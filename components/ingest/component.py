"""Reads the user's catalogue and log into the dataset artifact."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def ingest(
    config: str,
    data_digest: str,
    code_version: str,
    dataset: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Reads, validates and divides the user's data; broken rows are quarantined with their reasons.

    Args:
        config: JSON of `contracts.ingestion.config.DataConfig`.
        data_digest: digest of the files that it names; part of the cache key.
        code_version: version of the library; part of the cache key.
        dataset: catalogue, log, split and quarantine.
        metrics: rows accepted and quarantined.
    """
    from pathlib import Path

    from components.support import log_lineage
    from contracts.ingestion.config import DataConfig
    from contracts.ingestion.ingest import ingest as run

    run(DataConfig.model_validate_json(config), out=Path(dataset.path))
    log_lineage(dataset, metrics)
