"""Fixtures: the tiny shop and a model trained on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from behavior_shop import SMALL, Shop, write_shop

from models.behavior.config import BehaviorConfig
from models.behavior.train import train_behavior_model


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """The order of a sum, and so its last bit, depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def config() -> BehaviorConfig:
    return BehaviorConfig.model_validate(SMALL)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return write_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def model(shop: Shop, config: BehaviorConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model."""
    folder = tmp_path_factory.mktemp("model")
    train_behavior_model(*shop, config, checkpoints=folder / "checkpoints", out=folder / "model")
    return folder / "model"
