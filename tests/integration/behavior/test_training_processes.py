"""Training in processes of its own: killed, and several together."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from behavior_shop import SMALL, BehaviorShop, write_shop
from safetensors import safe_open

from contracts.artifacts import read_lineage
from models.behavior.config import BehaviorConfig
from models.behavior.training.denoiser_trainer import DenoisingObjective
from models.behavior.training.train_behavior_model import train_behavior_model
from models.training.checkpoint import locate_checkpoint

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> BehaviorShop:
    return write_shop(tmp_path_factory.mktemp("shop"))


def config(**training: object) -> BehaviorConfig:
    network = SMALL["network"] | {"dropout": 0.0}
    return BehaviorConfig.model_validate(
        SMALL | {"network": network, "training": SMALL["training"] | {"batch_size": 7, **training}}
    )


def command(shop: BehaviorShop, settings: BehaviorConfig, folder: Path, *launcher: str) -> list[str]:
    folder.mkdir()
    (folder / "config.json").write_text(settings.model_dump_json())
    places = [*shop, folder / "config.json", folder / "checkpoints"]
    return [sys.executable, "-m", *launcher, "models.behavior", *map(str, places)]


def losses(path: Path) -> str:
    with safe_open(path, framework="pt") as stored:
        return stored.metadata()["progress"]


def test_a_run_killed_in_the_middle_of_an_epoch_ends_as_if_it_had_not_been(
    shop: BehaviorShop, tmp_path: Path
) -> None:
    settings = config(epochs=20, checkpoint_steps=3)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(shop, settings, whole), check=True, cwd=ROOT, timeout=TIMEOUT_S)
    again = command(shop, settings, killed)
    file = locate_checkpoint(killed / "checkpoints", "behavior", shop, settings)
    process = subprocess.Popen(again, cwd=ROOT)
    deadline = time.monotonic() + TIMEOUT_S
    while not (file.is_file() and '"step": 3' in losses(file)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    subprocess.run(again, check=True, cwd=ROOT, timeout=TIMEOUT_S)
    assert file.read_bytes() == (whole / "checkpoints" / file.name).read_bytes(), (
        "weights, optimizer and loss curve"
    )


@pytest.fixture(scope="module")
def alone(shop: BehaviorShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained by one process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("alone")
    train_behavior_model(*shop, config(), checkpoints=folder / "checkpoints", out=folder / "out")
    torch.set_num_threads(threads)
    return folder / "out"


def assert_close(out: Path, alone: Path) -> None:
    """The last bits of sums differ, and Adam enlarges that a little with every step."""
    theirs, ours = (read_lineage(folder).metrics for folder in (out, alone))
    for loss in ("train_loss", "validation_loss"):
        assert theirs[loss] == pytest.approx(ours[loss], rel=2e-3)
    assert theirs["best_epoch"] == ours["best_epoch"]


def test_two_processes_train_what_one_trains(shop: BehaviorShop, alone: Path, tmp_path: Path) -> None:
    together = config(num_processes=2)
    train_behavior_model(*shop, together, checkpoints=tmp_path / "checkpoints", out=tmp_path / "out")
    assert_close(tmp_path / "out", alone)


def test_what_torchrun_trained_is_taken_over(
    shop: BehaviorShop, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchrun = ("torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2", "-m")
    run = command(shop, config(), tmp_path / "run", *torchrun)
    subprocess.run(run, check=True, cwd=ROOT, timeout=TIMEOUT_S)
    monkeypatch.setattr(DenoisingObjective, "forward", lambda *_: pytest.fail("nothing is left to train"))
    train_behavior_model(*shop, config(), checkpoints=tmp_path / "run" / "checkpoints", out=tmp_path / "out")
    assert_close(tmp_path / "out", alone)
