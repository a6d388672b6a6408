"""Feast stores: what their `feature_store.yaml` says, and how they are opened."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml
from feast import FeatureStore
from feast.repo_config import RepoConfig, load_repo_config

from contracts.artifacts import write_text
from contracts.errors import UserError
from feature_repo.config import FeatureStoreConfig

STORE_FILE: Final = "feature_store.yaml"


def describe_store(folder: Path, config: FeatureStoreConfig) -> dict[str, Any]:
    """Describes a store kept in `folder`: the content of its `feature_store.yaml`."""
    folder = folder.resolve()
    online_store: dict[str, Any] = {"type": "sqlite", "path": str(folder / "online.db")}
    if config.online_store == "redis":
        online_store = {"type": "redis", "connection_string": config.redis_connection}
    return {
        "project": config.project,
        "provider": "local",
        "registry": {"path": str(folder / "registry.db"), "cache_ttl_seconds": 0},
        # Feast's default offline store silently loses ranking rows that share a user and a time.
        "offline_store": {"type": "duckdb"},
        "online_store": online_store,
        "entity_key_serialization_version": 3,
    }


def write_store_file(folder: Path, config: FeatureStoreConfig) -> None:
    """Writes `feature_store.yaml`, so that the `feast` command works in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / STORE_FILE, yaml.safe_dump(describe_store(folder, config), sort_keys=False))


def open_store(folder: Path, *, overwrite_newer: bool = False) -> FeatureStore:
    """Opens the store whose `feature_store.yaml` lies in `folder`.

    Args:
        folder: the store's folder.
        overwrite_newer: skip Redis' own comparison of times on writing; for writers that compare by
            themselves.

    Raises:
        UserError: there is no store, or an environment variable that its file names is not set.
    """
    store_file = folder / STORE_FILE
    if not store_file.is_file():
        raise UserError(f"no feature store in {folder} (no {STORE_FILE}); run the materialize step first.")
    repo_config = load_repo_config(folder.resolve(), store_file.resolve())
    _check_redis_address(repo_config)
    if overwrite_newer and repo_config.online_store.type == "redis":
        # Feast would leave out a repaired row whose time is that of the stored one.
        repo_config.online_store.skip_dedup = True
    return FeatureStore(config=repo_config)


def open_offline_store(folder: Path, config: FeatureStoreConfig, objects: Iterable[Any]) -> FeatureStore:
    """Opens a store for point-in-time joins alone: its registry in `folder`, with the given Feast objects."""
    store_settings = describe_store(folder, config.model_copy(update={"online_store": "sqlite"}))
    store = FeatureStore(config=RepoConfig(**store_settings, repo_path=folder.resolve()))
    store.apply(list(objects))
    return store


def _check_redis_address(config: RepoConfig) -> None:
    redis_address = getattr(config.online_store, "connection_string", "")
    if "${" in redis_address or redis_address.startswith("$"):
        raise UserError(
            f"the feature store's Redis address is '{redis_address}', but that environment variable is not "
            "set; set it to host:port (options after commas: db=0,password=...)."
        )
