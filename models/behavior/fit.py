"""The training loop: epochs over masked sequences, resumable after any step, the best epoch kept.

All randomness of a step derives from (seed, epoch, step), so a resumed run repeats the uninterrupted one exactly.
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from contracts.errors import UserError
from models.behavior.catalogue import IntArray
from models.behavior.checkpoint import Progress, load_progress, save_progress
from models.behavior.config import DiffusionTrainingConfig
from models.behavior.histories import Sequences
from models.behavior.network import Denoiser
from models.behavior.objective import Objective
from models.behavior.tensors import ItemTensors
from models.workers import Worker

_MAX_GRADIENT_NORM = 1.0
_LENGTH_POOL = 16
"""Batches that are drawn together and sorted by length, so that little is padding."""
_BETAS = (0.9, 0.98)


class Fitted(NamedTuple):
    """What training reports; the weights of the best epoch are in the network."""

    train_losses: list[float]
    """Negative ELBO per epoch, nats per behaviour."""
    validation_losses: list[float]
    """The same on the held-out users; not a number without any."""

    @property
    def metrics(self) -> dict[str, float]:
        """The kept epoch (counted from 1) and its losses."""
        scored = [loss for loss in self.validation_losses if not math.isnan(loss)]
        best = self.validation_losses.index(min(scored)) if scored else len(self.train_losses) - 1
        validation = {"validation_loss": min(scored)} if scored else {}
        return {"best_epoch": best + 1, "train_loss": self.train_losses[best], **validation}


def fit(
    denoiser: Denoiser,
    items: ItemTensors,
    train: Sequences,
    validation: Sequences,
    *,
    config: DiffusionTrainingConfig,
    seed: int,
    checkpoint: Path,
    worker: Worker,
) -> Fitted:
    """Trains the network in place.

    Args:
        denoiser: the network, as `start_from` left it.
        items: the catalogue with the training prior.
        train: training sequences, at least one.
        validation: the held-out users' sequences; without any the last epoch is kept.
        config: the settings.
        seed: of everything random.
        checkpoint: file to resume from and to save to; all workers see the same.
        worker: which of the processes that train together this one is.

    Raises:
        UserError: the loss is no longer a number.
    """
    denoiser.to(worker.device)
    trained = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, betas=_BETAS, weight_decay=config.weight_decay)
    progress = load_progress(checkpoint, denoiser, optimizer)
    objective = Objective(denoiser, items, config=config, seed=seed, worker=worker)

    def save() -> None:
        if worker.rank == 0:
            save_progress(checkpoint, progress, denoiser, optimizer)

    with torch.random.fork_rng():
        while len(progress.train_losses) < config.epochs:
            for _ in _train_epoch(optimizer, objective, train, progress, config, seed, worker):
                save()
            progress.validation_losses.append(objective.validate(validation))
            _refuse_divergence(progress, has_validation=len(validation.items) > 0)
            if len(validation.items) == 0 or progress.validation_losses[-1] == min(progress.validation_losses):
                progress.best = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
            save()
    denoiser.load_state_dict(progress.best)
    denoiser.cpu()
    return Fitted(progress.train_losses, progress.validation_losses)


def _refuse_divergence(progress: Progress, *, has_validation: bool) -> None:
    last = progress.validation_losses[-1] if has_validation else progress.train_losses[-1]
    if not math.isfinite(last):
        raise UserError(
            f"the loss of epoch {len(progress.train_losses)} is {last}: training diverged; lower "
            "behavior.training.learning_rate, or set behavior.training.precision to float32"
        )


def batches(lengths: IntArray, batch_size: int, generator: np.random.Generator) -> Iterator[IntArray]:
    """Random batches of sequences of like length, in random order, each sequence once."""
    order = generator.permutation(len(lengths))
    pool = batch_size * _LENGTH_POOL
    pools = [order[i : i + pool] for i in range(0, len(order), pool)]
    by_length = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
    starts = np.arange(0, len(by_length), batch_size)
    for start in generator.permutation(starts):
        yield by_length[start : start + batch_size]


def _train_epoch(
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    train: Sequences,
    progress: Progress,
    config: DiffusionTrainingConfig,
    seed: int,
    worker: Worker,
) -> Iterator[None]:
    """Goes through the rest of the epoch under way; yields where progress should be saved."""
    epoch = len(progress.train_losses)
    steps_per_epoch = math.ceil(len(train.items) / config.batch_size)
    order = batches(train.lengths, config.batch_size, np.random.default_rng((seed, epoch)))
    total, behaviors = 0.0, 0
    for rows in islice(order, progress.step, None):
        loss, loss_sum, size = objective.train(train.rows(rows), epoch, progress.step)
        _step(optimizer, loss, _learning_rate(epoch * steps_per_epoch + progress.step, steps_per_epoch, config))
        total, behaviors = total + loss_sum, behaviors + size
        progress.step += 1
        if progress.step % config.checkpoint_steps == 0 and progress.step < steps_per_epoch:
            progress.add(*worker.sum(total, behaviors))
            total, behaviors = 0.0, 0
            yield
    progress.add(*worker.sum(total, behaviors))
    progress.end_epoch()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], _MAX_GRADIENT_NORM)
    optimizer.step()


def _learning_rate(step: int, steps_per_epoch: int, config: DiffusionTrainingConfig) -> float:
    """Linear warm-up over one epoch, then a cosine to zero."""
    total = steps_per_epoch * config.epochs
    warm = min(1.0, (step + 1) / steps_per_epoch)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / total))
