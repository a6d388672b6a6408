"""The training loop: epochs over masked sequences, resumable after any epoch, the best epoch kept.

All randomness of an epoch derives from (seed, epoch), so a resumed run repeats the uninterrupted one exactly.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.behavior.catalogue import IntArray
from models.behavior.checkpoint import load_progress, save_progress
from models.behavior.config import DiffusionTrainingConfig
from models.behavior.diffusion import draw_noise, negative_elbo
from models.behavior.histories import Sequences
from models.behavior.network import Denoiser
from models.behavior.tensors import ItemTensors, sample_items, to_batch

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
) -> Fitted:
    """Trains the network in place.

    Args:
        denoiser: the network, as `start_from` left it.
        items: the catalogue with the training prior.
        train: training sequences, at least one.
        validation: the held-out users' sequences; without any the last epoch is kept.
        config: the settings.
        seed: of everything random.
        checkpoint: file to resume from and to save to after each epoch.
    """
    optimizer = torch.optim.AdamW(
        denoiser.parameters(), lr=config.learning_rate, betas=_BETAS, weight_decay=config.weight_decay
    )
    progress = load_progress(checkpoint, denoiser, optimizer)
    for epoch in range(len(progress.train_losses), config.epochs):
        progress.train_losses.append(_train_epoch(denoiser, optimizer, items, train, config, seed, epoch))
        progress.validation_losses.append(_validate(denoiser, items, validation, config, seed))
        if len(validation.items) == 0 or progress.validation_losses[-1] == min(progress.validation_losses):
            progress = progress._replace(best={k: v.clone() for k, v in denoiser.state_dict().items()})
        save_progress(checkpoint, progress, denoiser, optimizer)
    denoiser.load_state_dict(progress.best)
    return Fitted(progress.train_losses, progress.validation_losses)


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
    denoiser: Denoiser,
    optimizer: torch.optim.Optimizer,
    items: ItemTensors,
    train: Sequences,
    config: DiffusionTrainingConfig,
    seed: int,
    epoch: int,
) -> float:
    denoiser.train()
    steps_per_epoch = math.ceil(len(train.items) / config.batch_size)
    total, behaviors = 0.0, 0
    with torch.random.fork_rng():
        torch.manual_seed(_epoch_seed(seed, epoch))  # dropout
        generator = torch.Generator().manual_seed(_epoch_seed(seed, epoch))
        order = batches(train.lengths, config.batch_size, np.random.default_rng((seed, epoch)))
        for step, rows in enumerate(order):
            rate = _learning_rate(epoch * steps_per_epoch + step, steps_per_epoch, config)
            loss, size = _loss(denoiser, items, train.rows(rows), config, generator)
            _step(denoiser, optimizer, loss, rate)
            total, behaviors = total + float(loss.detach()) * size, behaviors + size
    return total / behaviors


def _loss(
    denoiser: Denoiser,
    items: ItemTensors,
    sequences: Sequences,
    config: DiffusionTrainingConfig,
    generator: torch.Generator,
) -> tuple[Tensor, int]:
    batch = to_batch(sequences)
    noise = draw_noise(batch.valid_bt, items.codes_nl.shape[1], config.item_mask_share, generator)
    if len(items.log_prior_n) > config.max_softmax_items:
        items, batch = sample_items(items, batch, config.max_softmax_items, generator)
    return negative_elbo(denoiser, items, batch, noise), int(batch.valid_bt.sum())


def _step(denoiser: Denoiser, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(denoiser.parameters(), _MAX_GRADIENT_NORM)
    optimizer.step()


@torch.no_grad()
def _validate(
    denoiser: Denoiser, items: ItemTensors, validation: Sequences, config: DiffusionTrainingConfig, seed: int
) -> float:
    """Negative ELBO of the held-out users, under the same noise every time, items masked whole."""
    if len(validation.items) == 0:
        return math.nan
    denoiser.eval()
    generator = torch.Generator().manual_seed(_epoch_seed(seed, -1))
    whole = config.model_copy(update={"item_mask_share": 1.0})
    total, behaviors = 0.0, 0
    for start in range(0, len(validation.items), config.batch_size):
        rows = validation.rows(slice(start, start + config.batch_size))
        loss, size = _loss(denoiser, items, rows, whole, generator)
        total, behaviors = total + float(loss) * size, behaviors + size
    return total / behaviors


def _learning_rate(step: int, steps_per_epoch: int, config: DiffusionTrainingConfig) -> float:
    """Linear warm-up over one epoch, then a cosine to zero."""
    total = steps_per_epoch * config.epochs
    warm = min(1.0, (step + 1) / steps_per_epoch)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / total))


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch + 1)).generate_state(1)[0])
