"""Turns a run configuration into the arguments of the compiled pipelines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from contracts.digests import compute_code_version
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.sources.list_files import QUERY_SCHEME, list_source_files
from contracts.shards import Shard
from models.ranker.config import WITHOUT_KNOWLEDGE
from pipelines.compiled_package import read_package
from pipelines.config import RunConfig
from pipelines.pinned_files import pin_local_files
from pipelines.run_data import (
    describe_shop_data,
    locate_shop_folder,
    prepare_local_data,
)
from pipelines.step_settings import WORKSPACE_MOUNT

DEFAULT_CHOICES: Final[Mapping[str, bool | str | float]] = {
    "deploy": True,
    "act": False,
    "train": False,
    "action": "show",
    "arm": "treatment",
    "ranker": "",
    "ranker_uri": "",
    "share": 0.0,
    "order": "",
}
"""The pipelines' switches and words where nothing is said of them."""


def build_local_arguments(
    package: Path, config: RunConfig, *, choices: Mapping[str, bool | str | float]
) -> dict[str, Any]:
    """The arguments of a run on this machine.

    Args:
        package: the compiled pipeline.
        config: the run configuration.
        choices: the pipeline's switches and words that differ from `DEFAULT_CHOICES`.

    Raises:
        UserError: a data source names no file, or recordings are not there.
    """
    data_config = prepare_local_data(config)
    for source in (data_config.items, data_config.events):
        if not source.uri.startswith(QUERY_SCHEME):
            list_source_files(source.uri)  # what is not there is said before anything runs
    pinned_config = pin_local_files(config)
    return _select_parameters(package, _build_arguments(pinned_config, data_config, config.home, choices))


def build_cluster_arguments(
    package: Path, config: RunConfig, *, choices: Mapping[str, bool | str | float]
) -> dict[str, Any]:
    """The arguments of a run on a cluster, where the workspace is a mounted volume.

    Args:
        package: the compiled pipeline.
        config: the run configuration.
        choices: the pipeline's switches and words that differ from `DEFAULT_CHOICES`.

    Raises:
        UserError: the package has a parameter that no configuration fills.
    """
    workspace_folder = Path(WORKSPACE_MOUNT)
    data_config = config.data or describe_shop_data(locate_shop_folder(workspace_folder))
    return _select_parameters(package, _build_arguments(config, data_config, workspace_folder, choices))


def _build_arguments(
    config: RunConfig,
    data_config: DataConfig,
    workspace: Path,
    choices: Mapping[str, bool | str | float],
) -> dict[str, Any]:
    # Without vectors there is nothing to search a history by.
    baseline_config = config.ranker.model_copy(update={"features": WITHOUT_KNOWLEDGE, "search_length": 0})
    room_configs = {
        "shop": config.shop,
        "data": data_config,
        "knowledge": config.knowledge,
        "student": config.student_lm,
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
        **(dict(DEFAULT_CHOICES) | dict(choices)),
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
        raise UserError(
            f"package '{package}' has parameters that this version does not know: "
            f"{', '.join(missing_names)}; compile it anew with `reaseq compile`"
        )
    return {name: available[name] for name in parameter_names}
