"""Fixtures: the tiny shop and a model trained on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from behavior_shop import SMALL, BehaviorShop, write_shop

from models.behavior.config import BehaviorConfig
from models.behavior.training.train_behavior_model import train_behavior_model


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """The order of a sum, and so its last bit, depends on the number of threads."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads_before)


@pytest.fixture(scope="session")
def config() -> BehaviorConfig:
    return BehaviorConfig.model_validate(SMALL)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> BehaviorShop:
    return write_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def model(shop: BehaviorShop, config: BehaviorConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model."""
    model_folder = tmp_path_factory.mktemp("model")
    train_behavior_model(*shop, config, checkpoints=model_folder / "checkpoints", out=model_folder / "model")
    return model_folder / "model"
