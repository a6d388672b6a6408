"""Turns a run configuration into the arguments of the compiled pipelines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contracts.digests import code_version, digest_value
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.sources import data_digest
from contracts.shards import Shard
from models.ranker.config import IDS_ONLY
from pipelines.config import RunConfig
from pipelines.data import local_data, shop_data, shop_folder
from pipelines.package import read_package
from pipelines.steps import WORKSPACE_MOUNT


def local_arguments(
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
    data = local_data(config)
    uris = {name: str(path) for name, path in artifacts.items()}
    return _select(package, _all(config, data, data_digest(data), config.home, uris, choices))


def cluster_arguments(
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
    home = Path(WORKSPACE_MOUNT)
    data = config.data or shop_data(shop_folder(home))
    digest = data_version or (data_digest(data) if config.data else digest_value(config.shop.model_dump(mode="json")))
    return _select(package, _all(config, data, digest, home, artifacts, choices))


def _all(
    config: RunConfig,
    data: DataConfig,
    digest: str,
    workspace: Path,
    artifacts: Mapping[str, str],
    choices: Mapping[str, bool],
) -> dict[str, Any]:
    # Without vectors there is nothing to search a history by.
    baseline = config.ranker.model_copy(update={"features": IDS_ONLY, "search_length": 0})
    rooms = {
        "shop": config.shop,
        "data": data,
        "knowledge": config.knowledge,
        "embedding": config.embedding,
        "behavior": config.behavior,
        "feature": config.features,
        "list": config.lists,
        "ranker": config.ranker,
        "baseline": baseline,
        "evaluation": config.evaluation,
        "serving": config.serving,
        "monitoring": config.monitoring,
    }
    return {
        **{f"{room}_config": room_config.model_dump_json() for room, room_config in rooms.items()},
        **{f"{name}_uri": uri for name, uri in artifacts.items()},
        **choices,
        "data_digest": digest,
        "knowledge_shards": _shards(config.knowledge.num_shards),
        "user_shards": _shards(config.behavior.inference.num_shards),
        "workspace": str(workspace),
        "code_version": code_version(),
    }


def _shards(total: int) -> list[str]:
    return [str(Shard(number, total)) for number in range(total)]


def _select(package: Path, available: dict[str, Any]) -> dict[str, Any]:
    wanted = read_package(package).parameters
    if missing := [name for name in wanted if name not in available]:
        raise UserError(
            f"pipeline '{package.stem}' needs {', '.join(missing)} of an earlier run; run train_and_deploy first"
        )
    return {name: available[name] for name in wanted}
