"""The sample shop of six items and three users, its features and a filled SQLite store."""

from pathlib import Path
from typing import NamedTuple

import pytest

from feature_repo.config import FeatureStoreConfig
from feature_repo.make_sample import write_sample_inputs
from feature_repo.offline.build_features import build_features
from feature_repo.online.materialize_features import materialize_features


class Shop(NamedTuple):
    dataset: Path
    item_embeddings: Path
    inferred_behaviors: Path
    features: Path


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    root = tmp_path_factory.mktemp("shop")
    inputs = write_sample_inputs(root)
    build_features(*inputs, FeatureStoreConfig(history_length=3, batch_rows=4), out=root / "features")
    return Shop(*inputs, root / "features")


@pytest.fixture(scope="session")
def store(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    materialize_features(shop.features, FeatureStoreConfig(history_length=3, batch_rows=2), store=folder)
    return folder
