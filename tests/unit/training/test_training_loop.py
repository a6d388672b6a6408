"""The training kit on a line that is fitted to points."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.training import training_loop
from models.training.checkpoint import Progress, TrainingState, load_checkpoint, save_checkpoint
from models.training.learning_rate import warm_up_then_cosine
from models.training.training_loop import SaveInterval, derive_step_seed, run_epochs, take_optimizer_step
from models.training.worker_processes import Worker

NUM_POINTS, BATCH_SIZE, MAX_EPOCHS = 20, 4, 6
STEPS_PER_EPOCH = NUM_POINTS // BATCH_SIZE


class LineTask:
    """Fits y = 2 x + 1 under dropout, so that a step hangs on its seed."""

    def __init__(self, scores: list[float] | None = None) -> None:
        torch.manual_seed(0)
        self.points = torch.linspace(-1, 1, NUM_POINTS).unsqueeze(1)
        self.scores = scores
        network = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(network.parameters(), 0.05)
        schedule = warm_up_then_cosine(optimizer, warmup_steps=3, total_steps=STEPS_PER_EPOCH * MAX_EPOCHS)
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        self.state = TrainingState(network, optimizer, schedule, average)

    def plan_epoch(self, epoch: int) -> list[np.ndarray]:
        return np.split(np.random.default_rng(epoch).permutation(NUM_POINTS), STEPS_PER_EPOCH)

    def train_on_batch(self, rows: np.ndarray) -> tuple[float, float]:
        torch.manual_seed(derive_step_seed(self.state.progress.num_epochs, self.state.progress.step))
        self.state.network.train()
        inputs = self.points[torch.from_numpy(rows)]
        loss = (self.state.network(inputs) - 2 * inputs - 1).square().mean()
        take_optimizer_step(loss, self.state.optimizer, self.state.schedule, max_gradient_norm=1.0)
        self.state.average.update_parameters(self.state.network)
        return float(loss.detach()) * len(rows), len(rows)

    def validate_epoch(self) -> float:
        if self.scores is not None:
            return self.scores[self.state.progress.num_epochs - 1]
        with torch.no_grad():
            network = self.state.average.module.eval()
            return -float((network(self.points) - 2 * self.points - 1).square().mean())


def train_line(task: LineTask, checkpoint: Path, *, save_interval: SaveInterval, **limits: float) -> LineTask:
    limits = {"max_epochs": MAX_EPOCHS, **limits}
    run_epochs(task, checkpoint=checkpoint, save_interval=save_interval, is_writer=True, **limits)
    return task


@pytest.mark.parametrize("interval", [{"steps": 2}, {"minutes": 0.0}])
def test_a_killed_training_ends_with_the_same_file(
    interval: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_line(LineTask(), tmp_path / "whole", save_interval=SaveInterval(**interval))
    kills = [(0, 2), (1, 0), (3, 4)]

    def save_then_die(path: Path, state: TrainingState) -> None:
        save_checkpoint(path, state)
        if kills and (state.progress.num_epochs, state.progress.step) == kills[0]:
            kills.pop(0)
            raise KeyboardInterrupt

    monkeypatch.setattr(training_loop, "save_checkpoint", save_then_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train_line(LineTask(), tmp_path / "killed", save_interval=SaveInterval(**interval))
    resumed = train_line(LineTask(), tmp_path / "killed", save_interval=SaveInterval(**interval))
    assert resumed.state.progress == whole.state.progress
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert whole.state.progress.losses[-1] < whole.state.progress.losses[0]


def test_a_finished_training_is_taken_over(tmp_path: Path) -> None:
    whole = train_line(LineTask(), tmp_path / "file", save_interval=SaveInterval())
    again = LineTask()
    again.train_on_batch = lambda _: pytest.fail("nothing is left to train")
    train_line(again, tmp_path / "file", save_interval=SaveInterval())
    for name, tensor in whole.state.network.state_dict().items():
        assert torch.equal(tensor, again.state.network.state_dict()[name])


def test_training_ends_when_patience_does_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    task = LineTask(scores=[0.1, 0.3, 0.3, 0.2, 0.9, 0.9])
    train_line(task, tmp_path / "file", save_interval=SaveInterval(), patience=2)
    assert (task.state.progress.num_epochs, task.state.progress.best_epoch) == (4, 2)
    assert task.state.progress.best_score == 0.3


def test_without_validation_the_last_epoch_is_kept(tmp_path: Path) -> None:
    task = LineTask(scores=[math.nan] * MAX_EPOCHS)
    train_line(task, tmp_path / "file", save_interval=SaveInterval(), patience=2)
    assert task.state.progress.best_epoch == MAX_EPOCHS
    average = task.state.average.module.state_dict()
    assert all(torch.equal(value, average[name]) for name, value in task.state.network.state_dict().items())


def test_training_leaves_the_random_state_alone(tmp_path: Path) -> None:
    task = LineTask()
    before = torch.get_rng_state()
    train_line(task, tmp_path / "file", save_interval=SaveInterval())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_holds_tensors_and_json(tmp_path: Path) -> None:
    task = LineTask()
    task.state.progress = Progress(step=3, losses=[0.5], scores=[math.nan], best_epoch=1)
    task.train_on_batch(np.arange(4))
    save_checkpoint(tmp_path / "folder" / "file", task.state)
    with safe_open(tmp_path / "folder" / "file", framework="pt") as stored:
        assert list(stored.metadata()) == ["progress"]
        assert {name.split(".")[0] for name in stored.keys()} == {"network", "average", "optimizer"}  # noqa: SIM118
    other = LineTask()
    load_checkpoint(tmp_path / "folder" / "file", other.state)
    assert str(other.state.progress) == str(task.state.progress)
    assert other.state.optimizer.param_groups[0]["lr"] == task.state.optimizer.param_groups[0]["lr"] != 0.05
    assert other.state.average.n_averaged == 1


def test_the_rate_rises_and_falls_to_nothing() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 2.0)
    schedule = warm_up_then_cosine(optimizer, warmup_steps=4, total_steps=10)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 2.0 / 4
    assert rates[5] == pytest.approx(1.0)
    assert rates[10] == 0
    assert rates == pytest.approx(
        [2 * min(1, (t + 1) / 4) * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(11)]
    )


def test_workers_share_a_batch_without_remainder() -> None:
    rows = np.arange(7)
    workers = [Worker(rank, 3, torch.device("cpu"), False) for rank in range(3)]
    shares = [rows[worker.take_share(len(rows))[0]] for worker in workers]
    assert sorted(np.concatenate(shares)) == list(rows)
    share, is_counted = workers[2].take_share(2)
    assert (len(rows[share]), is_counted) == (1, False)
