from pathlib import Path

import pytest
from ranker_shop import Shop, make_events, make_requests, make_shop, tiny_config

from contracts.dataset import Dataset, read_dataset
from models.ranker.config import IDS_ONLY
from models.ranker.training.train_ranker import train_ranker


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Behaviors only."""
    return make_shop(tmp_path_factory.mktemp("shop"), make_events())


@pytest.fixture(scope="session")
def shown_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Behaviors and the impressions that led to them."""
    return make_shop(tmp_path_factory.mktemp("shown"), make_requests(make_events()))


@pytest.fixture(scope="session")
def data(shop: Shop) -> Dataset:
    return read_dataset(shop.inputs.dataset)


@pytest.fixture(scope="session")
def ranker(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained ranker with every enhancement."""
    root = tmp_path_factory.mktemp("ranker")
    train_ranker(*shop.inputs, tiny_config(), checkpoints=root / "checkpoints", out=root / "full")
    return root / "full"


@pytest.fixture(scope="session")
def baseline(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained ranker on ids, category, brand and price."""
    root = tmp_path_factory.mktemp("baseline")
    train_ranker(
        *shop.inputs, tiny_config(features=IDS_ONLY), checkpoints=root / "checkpoints", out=root / "ids"
    )
    return root / "ids"
