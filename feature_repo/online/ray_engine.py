"""Feast's Ray engine as the first writer of the online store.

DuckDB reads each table on the driver, Ray's workers write it. The engine logs what it could not write
instead of failing, and leaves out rows beyond a view's TTL. So `materialize_features.py` compares every
row afterwards and writes the rest.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from contracts.errors import UserError
from feature_repo.feast_store import open_store

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def write_views_by_ray(store: Path, views: Sequence[str], *, workers: int) -> None:
    """Writes the tables of registered views into their online store.

    The cluster is the one that the environment variable RAY_ADDRESS names. Without it Ray starts one on
    127.0.0.1, which ends with this process.

    Args:
        store: the store's folder.
        views: names of the views.
        workers: how many write at once.

    Raises:
        UserError: Ray is not installed.
    """
    if find_spec("ray") is None:
        raise UserError(
            "features.engine = ray, but Ray is not installed here; install the extra `ray` "
            "(scripts/setup.sh ray), or use features.engine = local"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    feature_store = open_store(store)
    feature_store.config.batch_engine_config = {"type": "ray.engine", "write_concurrency": workers}
    feature_store.materialize(_EPOCH, datetime.now(UTC), feature_views=list(views))
