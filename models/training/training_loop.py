"""The training loop: epochs of batches, the best epoch kept, killed anywhere and resumed exactly there.

Simpler loops call `take_optimizer_step` only.
"""

import math
import time
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from contracts.array_types import IntArray
from contracts.progress import report_progress
from models.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint


class TrainingTask(Protocol):
    """What a model adds to the loop. Its randomness must derive from (seed, epoch, step) for exact resume."""

    state: TrainingState
    """What is trained."""

    def plan_epoch(self, epoch: int) -> list[IntArray]:
        """The rows of each batch."""

    def train_on_batch(self, rows: IntArray) -> tuple[float, float]:
        """Takes one step; returns a sum of losses and its number of terms, both over all workers."""

    def validate_epoch(self) -> float:
        """The score of the weights as they are, higher is better; nan where there is no validation."""


class SaveInterval:
    """When to save inside an epoch: after so many steps, or after so many minutes."""

    def __init__(self, *, steps: int | None = None, minutes: float = math.inf) -> None:
        self._steps, self._seconds, self._restarted_at = steps, 60 * minutes, time.monotonic()

    def is_save_due(self, step: int) -> bool:
        """Whether to save now, with `step` steps of the epoch done."""
        if self._steps is not None and step % self._steps == 0:
            return True
        return time.monotonic() - self._restarted_at >= self._seconds

    def restart_clock(self) -> None:
        """The state has been saved."""
        self._restarted_at = time.monotonic()


def run_epochs(
    task: TrainingTask,
    *,
    max_epochs: int,
    patience: float = math.inf,
    checkpoint: Path,
    save_interval: SaveInterval,
    is_writer: bool,
) -> None:
    """Trains to the end and leaves the best epoch's weights in the network, on the CPU.

    Args:
        task: what is trained, on what, and how. Its state is restored from the checkpoint where there is one.
        max_epochs: epochs at most.
        patience: epochs without a better score after which training ends.
        checkpoint: file to resume from and to save to; all workers see the same.
        save_interval: when to save besides every epoch's end.
        is_writer: whether this worker saves; one does.
    """

    def save_state() -> None:
        save_interval.restart_clock()
        if is_writer:
            save_checkpoint(checkpoint, task.state)

    state = task.state
    load_checkpoint(checkpoint, state)
    progress = state.progress
    with torch.random.fork_rng():
        while progress.num_epochs < max_epochs and progress.num_epochs - progress.best_epoch < patience:
            epoch_batches = task.plan_epoch(progress.num_epochs)
            for batch_rows in epoch_batches[progress.step :]:
                progress.finish_step(*task.train_on_batch(batch_rows))
                if is_writer:
                    stage = f"train, epoch {progress.num_epochs + 1} of at most {max_epochs}:"
                    report_progress(stage, progress.step, len(epoch_batches), "steps")
                if progress.step < len(epoch_batches) and save_interval.is_save_due(progress.step):
                    save_state()
            progress.finish_epoch()
            if progress.add_score(task.validate_epoch()):
                state.best_weights = state.copy_weights()
            save_state()
    state.network.load_state_dict(state.best_weights)
    state.network.cpu()


def take_optimizer_step(
    loss: Tensor, optimizer: Optimizer, schedule: LRScheduler, *, max_gradient_norm: float | None = None
) -> None:
    """Descends on a loss once and moves the learning rate on."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if max_gradient_norm is not None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, max_gradient_norm)
    optimizer.step()
    schedule.step()


def derive_step_seed(*place: int) -> int:
    """The seed of what is random at a place of a training, such as (seed, epoch, step)."""
    return int(np.random.SeedSequence(place).generate_state(1)[0])
