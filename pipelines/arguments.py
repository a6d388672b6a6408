"""Turns a run configuration into the arguments of the compiled `train_and_deploy`."""

from pathlib import Path
from typing import Any

from contracts.digests import code_version
from contracts.ingestion.config import DataConfig
from contracts.ingestion.sources import data_digest
from models.ranker.config import IDS_ONLY
from pipelines.config import RunConfig


def train_and_deploy_arguments(
    config: RunConfig, data: DataConfig, *, workspace: Path, champion: str, deploy: bool
) -> dict[str, Any]:
    """The arguments of one run.

    Args:
        config: the run configuration.
        data: the user's data, or the embedded shop's files.
        workspace: the workspace as the tasks see it.
        champion: folder of the ranker in service, empty when there is none.
        deploy: put the ranker into service when the gate lets it pass.

    Raises:
        UserError: a data source names no file.
    """
    return {
        "data_config": data.model_dump_json(),
        "data_digest": data_digest(data),
        "knowledge_config": config.knowledge.model_dump_json(),
        "embedding_config": config.embedding.model_dump_json(),
        "behavior_config": config.behavior.model_dump_json(),
        "feature_config": config.features.model_dump_json(),
        "list_config": config.lists.model_dump_json(),
        "ranker_config": config.ranker.model_dump_json(),
        "baseline_config": config.ranker.model_copy(update={"features": IDS_ONLY}).model_dump_json(),
        "evaluation_config": config.evaluation.model_dump_json(),
        "serving_config": config.serving.model_dump_json(),
        "champion": champion,
        "workspace": str(workspace),
        "code_version": code_version(),
        "deploy": deploy,
    }
