"""Opens and describes Feast stores."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml
from feast import FeatureStore
from feast.repo_config import RepoConfig, load_repo_config

from contracts.artifacts import write_text
from contracts.errors import UserError
from feature_repo.config import FeatureConfig

STORE_FILE: Final = "feature_store.yaml"


def describe_store(folder: Path, config: FeatureConfig) -> dict[str, Any]:
    """The content of `feature_store.yaml` for a store kept in `folder`.

    The offline store is DuckDB: Feast's default one silently loses ranking rows that share a user and a time.
    """
    folder = folder.resolve()
    online: dict[str, Any] = {"type": "sqlite", "path": str(folder / "online.db")}
    if config.online_store == "redis":
        online = {"type": "redis", "connection_string": config.redis_connection}
    return {
        "project": config.project,
        "provider": "local",
        "registry": {"path": str(folder / "registry.db"), "cache_ttl_seconds": 0},
        "offline_store": {"type": "duckdb"},
        "online_store": online,
        "entity_key_serialization_version": 3,
    }


def write_store_file(folder: Path, config: FeatureConfig) -> None:
    """Writes `feature_store.yaml`, so that the `feast` command works in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / STORE_FILE, yaml.safe_dump(describe_store(folder, config), sort_keys=False))


def open_store(folder: Path, *, overwrite_newer: bool = False) -> FeatureStore:
    """Opens the store whose `feature_store.yaml` lies in `folder`.

    Args:
        folder: the store's folder.
        overwrite_newer: skip Redis' own comparison of times on writing; for writers that compare by themselves.

    Raises:
        UserError: there is no store, or an environment variable that its file names is not set.
    """
    path = folder / STORE_FILE
    if not path.is_file():
        raise UserError(f"no feature store in {folder} (no {STORE_FILE}); run the materialize step first.")
    config = load_repo_config(folder.resolve(), path.resolve())
    _check_connection(config)
    if overwrite_newer and config.online_store.type == "redis":
        config.online_store.skip_dedup = True
    return FeatureStore(config=config)


def offline_store(folder: Path, config: FeatureConfig, objects: Iterable[Any]) -> FeatureStore:
    """A store only for point-in-time joins, with its registry in `folder` and the given Feast objects applied."""
    described = describe_store(folder, config.model_copy(update={"online_store": "sqlite"}))
    store = FeatureStore(config=RepoConfig(**described, repo_path=folder.resolve()))
    store.apply(list(objects))
    return store


def _check_connection(config: RepoConfig) -> None:
    connection = getattr(config.online_store, "connection_string", "")
    if "${" in connection or connection.startswith("$"):
        raise UserError(
            f"the feature store's Redis address is '{connection}', but that environment variable is not set; "
            "set it to host:port (options after commas: db=0,password=...)."
        )
