"""Turns a run configuration into the arguments of the compiled pipelines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contracts.digests import compute_code_version, digest_value
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.sources.list_files import digest_data
from contracts.shards import Shard
from models.ranker.config import WITHOUT_KNOWLEDGE
from pipelines.compiled_package import read_package
from pipelines.config import RunConfig
from pipelines.run_data import describe_shop_data, locate_shop_folder, prepare_local_data
from pipelines.step_settings import WORKSPACE_MOUNT


def build_local_arguments(
    package: Path, config: RunConfig, *, artifacts: Mapping[str, Path], choices: Mapping[str, bool]
) -> dict[str, Any]:
    """The arguments of a run on this machine.

    Args:
        package: the compiled pipeline.
        config: the run configuration.
        artifacts: what an earlier run left: name -> folder.
        choices: the pipeline's switches: `deploy`, `act`.

    Raises:
        UserError: a data source names no file, or an artifact that the pipeline needs is not there.
    """
    data_config = prepare_local_data(config)
    artifact_uris = {name: str(path) for name, path in artifacts.items()}
    return _select_parameters(
        package,
        _build_arguments(config, data_config, digest_data(data_config), config.home, artifact_uris, choices),
    )


def build_cluster_arguments(
    package: Path,
    config: RunConfig,
    *,
    data_version: str | None,
    artifacts: Mapping[str, str],
    choices: Mapping[str, bool],
) -> dict[str, Any]:
    """The arguments of a run on a cluster, where the workspace is a mounted volume.

    Args:
        package: the compiled pipeline.
        config: the run configuration.
        data_version: names the state of data that cannot be read from here.
        artifacts: what an earlier run left: name -> URI.
        choices: the pipeline's switches: `deploy`, `act`.

    Raises:
        UserError: the data cannot be read from here and has no version, or an artifact is missing.
    """
    workspace_folder = Path(WORKSPACE_MOUNT)
    data_config = config.data or describe_shop_data(locate_shop_folder(workspace_folder))
    data_state = data_version or (
        digest_data(data_config) if config.data else digest_value(config.shop.model_dump(mode="json"))
    )
    return _select_parameters(
        package, _build_arguments(config, data_config, data_state, workspace_folder, artifacts, choices)
    )


def _build_arguments(
    config: RunConfig,
    data_config: DataConfig,
    data_state: str,
    workspace: Path,
    artifact_uris: Mapping[str, str],
    choices: Mapping[str, bool],
) -> dict[str, Any]:
    # Without vectors there is nothing to search a history by.
    baseline_config = config.ranker.model_copy(update={"features": WITHOUT_KNOWLEDGE, "search_length": 0})
    room_configs = {
        "shop": config.shop,
        "data": data_config,
        "knowledge": config.knowledge,
        "embedding": config.embedding,
        "behavior": config.behavior,
        "feature": config.features,
        "list": config.lists,
        "ranker": config.ranker,
        "baseline": baseline_config,
        "evaluation": config.evaluation,
        "serving": config.serving,
        "event_log": config.serving.event_log,
        "served_log": config.served_log,
        "monitoring": config.monitoring,
    }
    return {
        **{f"{room}_config": room_config.model_dump_json() for room, room_config in room_configs.items()},
        **{f"{name}_uri": uri for name, uri in artifact_uris.items()},
        **choices,
        "data_digest": data_state,
        "knowledge_shards": _list_shards(config.knowledge.num_shards),
        "user_shards": _list_shards(config.behavior.inference.num_shards),
        "workspace": str(workspace),
        "code_version": compute_code_version(),
    }


def _list_shards(num_shards: int) -> list[str]:
    return [str(Shard(shard_number, num_shards)) for shard_number in range(num_shards)]


def _select_parameters(package: Path, available: dict[str, Any]) -> dict[str, Any]:
    parameter_names = read_package(package).parameters
    if missing_names := [name for name in parameter_names if name not in available]:
        needs = f"pipeline '{package.stem}' needs {', '.join(missing_names)} of an earlier run"
        raise UserError(f"{needs}; run train_and_deploy first")
    return {name: available[name] for name in parameter_names}
