"""What the denoiser adds to the training loop: its batches, its step under noise and its validation.

All randomness of a step derives from (seed, epoch, step), so a resumed run repeats the uninterrupted one
exactly. Masks are drawn for the whole batch before the workers share it out. So several workers compute what
one does, and only their dropout differs.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from contracts.array_types import IntArray
from contracts.errors import UserError
from models.behavior.config import DiffusionTrainingConfig
from models.behavior.network.denoiser import Denoiser
from models.behavior.network.diffusion_noise import MaskNoise, draw_mask_noise, estimate_negative_elbo
from models.behavior.sequences.sequence_tensors import (
    ItemTensors,
    SequenceBatch,
    make_sequence_batch,
    move_to_device,
    sample_softmax_items,
    take_tensor_rows,
)
from models.behavior.sequences.user_sequences import BehaviorSequences
from models.training.checkpoint import TrainingState
from models.training.learning_rate import warm_up_then_cosine
from models.training.training_loop import SaveInterval, derive_step_seed, run_epochs, take_optimizer_step
from models.training.worker_processes import Worker

_MAX_GRADIENT_NORM = 1.0
_LENGTH_POOL = 16
"""Batches that are drawn together and sorted by length, so that little is padding."""
_WEIGHT_DECAY = 0.01
"""The default of AdamW."""
_BETAS = (0.9, 0.98)
_ITEM_MASK_SHARE = 0.75
"""Share of sequences whose items are masked whole; in the rest each code token is masked by itself."""
_MAX_SOFTMAX_ITEMS = 4_000
"""Larger catalogues train on a fresh uniform sample of this many items per step, which bounds the memory."""
_VALIDATION_EPOCH = -1
"""Stands for the epoch in the seeds of validation, which are the same every time."""


class TrainingCurves(NamedTuple):
    """What training reports; the weights of the best epoch are in the network."""

    train_losses: list[float]
    """Negative ELBO per epoch, nats per behavior."""
    validation_losses: list[float]
    """The same on the held-out users; not a number without any."""
    best_epoch: int
    """The kept epoch, counted from 1."""

    def summarize_metrics(self) -> dict[str, float]:
        """The kept epoch and its losses."""
        metrics = {"best_epoch": self.best_epoch, "train_loss": self.train_losses[self.best_epoch - 1]}
        validation_loss = self.validation_losses[self.best_epoch - 1]
        return metrics if math.isnan(validation_loss) else metrics | {"validation_loss": validation_loss}


@dataclass
class DenoiserTrainer:
    """Descends on the negative ELBO of sequences under the noise of their step."""

    denoiser: Denoiser
    """The network, as `start_from` left it."""
    items: ItemTensors
    """The catalogue with the training prior."""
    train_sequences: BehaviorSequences
    """At least one."""
    validation_sequences: BehaviorSequences
    """Those of the held-out users; without any the last epoch is kept."""
    config: DiffusionTrainingConfig
    seed: int
    """Of everything random."""
    worker: Worker

    def __post_init__(self) -> None:
        self.items = move_to_device(self.items, self.worker.device)
        denoiser = self.denoiser.to(self.worker.device)
        trainable_parameters = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trainable_parameters, lr=self.config.learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY
        )
        steps_per_epoch = math.ceil(len(self.train_sequences.items) / self.config.batch_size)
        schedule = warm_up_then_cosine(
            optimizer, warmup_steps=steps_per_epoch, total_steps=steps_per_epoch * self.config.epochs
        )
        self.state = TrainingState(denoiser, optimizer, schedule)
        self._objective = self.worker.average_gradients(DenoisingObjective(denoiser))

    def train_network(self, checkpoint: Path) -> TrainingCurves:
        """Trains to the end, from the checkpoint on; leaves the best epoch's weights in the network.

        Raises:
            UserError: the loss is no longer a number.
        """
        run_epochs(
            self,
            max_epochs=self.config.epochs,
            checkpoint=checkpoint,
            save_interval=SaveInterval(steps=self.config.checkpoint_steps),
            is_writer=self.worker.rank == 0,
        )
        progress = self.state.progress
        return TrainingCurves(progress.losses, [-score for score in progress.scores], progress.best_epoch)

    def plan_epoch(self, epoch: int) -> list[IntArray]:
        """Sequences of each batch."""
        rng = np.random.default_rng((self.seed, epoch))
        return plan_batches_by_length(self.train_sequences.lengths, self.config.batch_size, rng)

    def train_on_batch(self, rows: IntArray) -> tuple[float, float]:
        """Takes one step; returns the losses' sum over behaviors and the number of behaviors."""
        self.denoiser.train()
        progress, sequences = self.state.progress, self.train_sequences.rows(rows)
        torch.manual_seed(
            self._draw_seed(progress.num_epochs, progress.step, self.worker.rank + 1)
        )  # dropout
        noise_seed = self._draw_seed(progress.num_epochs, progress.step, 0)
        loss, num_behaviors = self._compute_loss(sequences, _ITEM_MASK_SHARE, noise_seed)
        # Averaged over the workers these are the loss of the whole batch.
        share_weight = num_behaviors * self.worker.num_workers / int(sequences.lengths.sum())
        take_optimizer_step(
            loss * share_weight,
            self.state.optimizer,
            self.state.schedule,
            max_gradient_norm=_MAX_GRADIENT_NORM,
        )
        loss_sum, count = self.worker.sum_over_workers(float(loss.detach()) * num_behaviors, num_behaviors)
        return loss_sum, count

    @torch.no_grad()
    def validate_epoch(self) -> float:
        """Minus the loss per behavior of the held-out users; the noise is the same, items masked whole."""
        if not len(self.validation_sequences.items):
            self._refuse_divergence(self.state.progress.losses[-1])
            return math.nan
        self.denoiser.eval()
        loss_sum, count = 0.0, 0
        for step, start in enumerate(range(0, len(self.validation_sequences.items), self.config.batch_size)):
            sequences = self.validation_sequences.rows(slice(start, start + self.config.batch_size))
            noise_seed = self._draw_seed(_VALIDATION_EPOCH, step, 0)
            loss, num_behaviors = self._compute_loss(sequences, 1.0, noise_seed)
            loss_sum, count = loss_sum + float(loss) * num_behaviors, count + num_behaviors
        total_loss, total_count = self.worker.sum_over_workers(loss_sum, count)
        self._refuse_divergence(total_loss / total_count)
        return -total_loss / total_count

    def _refuse_divergence(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(
                f"the loss of epoch {self.state.progress.num_epochs} is {loss}: training diverged; lower "
                "behavior.training.learning_rate, or set behavior.training.precision to float32"
            )

    def _compute_loss(
        self, sequences: BehaviorSequences, item_mask_share: float, seed: int
    ) -> tuple[Tensor, int]:
        """Loss per behavior of this worker's share, and its behaviors: none of too few sequences."""
        generator = torch.Generator().manual_seed(seed)
        items, batch = self.items, make_sequence_batch(sequences)
        noise = draw_mask_noise(batch.is_valid_BT, items.codes_IL.shape[1], item_mask_share, generator)
        if len(items.log_prior_I) > _MAX_SOFTMAX_ITEMS:
            items, batch = sample_softmax_items(items, batch, _MAX_SOFTMAX_ITEMS, generator)
        own_share, is_counted = self.worker.take_share(len(sequences.items))
        batch, noise = (take_tensor_rows(batch, own_share), take_tensor_rows(noise, own_share))
        device = self.worker.device
        with self.worker.autocast_losses():
            loss: Tensor = self._objective(
                items, move_to_device(batch, device), move_to_device(noise, device)
            )
        return loss, int(batch.is_valid_BT.sum()) if is_counted else 0

    def _draw_seed(self, epoch: int, step: int, use: int) -> int:
        return derive_step_seed(self.seed, epoch + 1, step, use)


class DenoisingObjective(nn.Module):
    """The loss as the forward pass of a module, which is what can be wrapped to average gradients."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, items: ItemTensors, batch: SequenceBatch, noise: MaskNoise) -> Tensor:
        """Negative ELBO per behavior."""
        return estimate_negative_elbo(self.denoiser, items, batch, noise)


def plan_batches_by_length(lengths: IntArray, batch_size: int, rng: np.random.Generator) -> list[IntArray]:
    """Random batches of sequences of like length, in random order, each sequence once."""
    order = rng.permutation(len(lengths))
    pool_size = batch_size * _LENGTH_POOL
    pools = [order[start : start + pool_size] for start in range(0, len(order), pool_size)]
    by_length = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
    batch_starts = rng.permutation(np.arange(0, len(by_length), batch_size))
    return [by_length[start : start + batch_size] for start in batch_starts]
