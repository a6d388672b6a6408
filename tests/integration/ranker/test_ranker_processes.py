"""Rankers trained by several processes together."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from ranker_shop import Shop, make_events, make_requests, make_shop, tiny_config

from models.ranker.config import RankerConfig
from models.ranker.training.ranking_loss import RankingObjective
from models.ranker.training.train_ranker import train_ranker

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
TIMEOUT_S = 400
LOGS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "behaviors": lambda log: log,
    "impressions": make_requests,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"), make_events())


def make_config(**options: Any) -> RankerConfig:
    """Without dropout, which differs between workers."""
    return tiny_config(dropout=0.0, id_dropout=0.0, batch_size=37, num_threads=1, **options)


def train_and_report(shop: Shop, settings: RankerConfig, folder: Path) -> dict[str, Any]:
    train_ranker(*shop.inputs, settings, checkpoints=folder / "checkpoints", out=folder / "out")
    report: dict[str, Any] = json.loads((folder / "out" / "training.json").read_text())
    return report


@pytest.fixture(scope="module")
def alone(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process trains."""
    return train_and_report(shop, make_config(), tmp_path_factory.mktemp("alone"))


def assert_close(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """The last bits of sums differ, and Adam enlarges that a little with every step."""
    assert theirs["losses"] == pytest.approx(ours["losses"], rel=2e-3)
    assert theirs["best_validation_score"] == pytest.approx(ours["best_validation_score"], abs=5e-3)


@pytest.mark.parametrize("log", LOGS)
def test_two_processes_train_what_one_trains(log: str, tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "shop", LOGS[log](make_events()))
    two, one = (
        train_and_report(shop, make_config(num_processes=count), tmp_path / str(count)) for count in (2, 1)
    )
    assert_close(two, one)


def test_what_torchrun_trained_is_taken_over(
    shop: Shop, alone: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "config.json"
    settings.write_text(make_config().model_dump_json())
    torchrun = ["torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    worker_arguments = [*shop.inputs, settings, tmp_path / "checkpoints"]
    command = [sys.executable, "-m", *torchrun, "-m", "models.ranker", *map(str, worker_arguments)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=TIMEOUT_S)
    monkeypatch.setattr(RankingObjective, "forward", lambda *_: pytest.fail("nothing is left to train"))
    assert_close(train_and_report(shop, make_config(), tmp_path), alone)


def test_two_nodes_of_the_job_train_what_is_taken_over(
    shop: Shop, alone: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest's own command, in the environment that Kubeflow's training operator gives each pod."""
    job = yaml.safe_load((ROOT / "infra/k8s/training/pytorch_job.yaml").read_text())["spec"]
    settings = tmp_path / "config.json"
    settings.write_text(make_config().model_dump_json())
    inputs = (*shop.inputs, settings, tmp_path / "checkpoints")
    names = ("training/training_set", "training/dataset", "training/item_embeddings", "training/config.json")
    claim = [f"/var/lib/reaseq/{name}" for name in (*names, "checkpoints/ranker")]
    ours = dict(zip(claim, map(str, inputs), strict=True))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nodes = []
    for node, role in enumerate(("Master", "Worker")):
        replicas = job["pytorchReplicaSpecs"][role]
        assert replicas["replicas"] == 1
        (container,) = replicas["template"]["spec"]["containers"]
        assert container["command"] == ["torchrun"]
        environment = {
            "PET_NNODES": "2",
            "PET_NODE_RANK": str(node),
            "PET_NPROC_PER_NODE": job["nprocPerNode"],
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
        }
        words = [
            ours.pop(word) if word in claim and node == 1 else ours.get(word, word)
            for word in container["args"]
        ]
        command = [sys.executable, "-m", "torch.distributed.run", *words]
        nodes.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | environment))
    assert [node.wait(TIMEOUT_S) for node in nodes] == [0, 0]
    monkeypatch.setattr(RankingObjective, "forward", lambda *_: pytest.fail("nothing is left to train"))
    assert_close(train_and_report(shop, make_config(), tmp_path), alone)


def test_half_precision_trains_nearly_the_same(shop: Shop, alone: dict[str, Any], tmp_path: Path) -> None:
    half_precision = train_and_report(shop, make_config(precision="bfloat16"), tmp_path)
    assert half_precision["losses"] == pytest.approx(alone["losses"], rel=0.05)
