"""The loss of a training step, shared by the processes that train together."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from models.behavior.config import DiffusionTrainingConfig
from models.behavior.diffusion import Noise, draw_noise, negative_elbo
from models.behavior.histories import Sequences
from models.behavior.network import Denoiser
from models.behavior.tensors import Batch, ItemTensors, on_device, rows_of, sample_items, to_batch
from models.workers import Worker

_VALIDATION = -1
"""Stands for the epoch in the seeds of validation, which are the same every time."""


class Objective:
    """The negative ELBO of sequences under the noise of their step.

    Masks are drawn for the whole batch before the workers share it out, so several workers compute what one does; only
    their dropout differs.
    """

    def __init__(
        self, denoiser: Denoiser, items: ItemTensors, *, config: DiffusionTrainingConfig, seed: int, worker: Worker
    ) -> None:
        self._denoiser, self._config, self._seed, self._worker = denoiser, config, seed, worker
        self._items = on_device(items, worker.device)
        self._module = worker.wrap(_Loss(denoiser))

    def train(self, sequences: Sequences, epoch: int, step: int) -> tuple[Tensor, float, int]:
        """The loss to descend on (averaged over workers it is the batch's), its sum here, and behaviours here."""
        self._denoiser.train()
        torch.manual_seed(self._draw(epoch, step, self._worker.rank + 1))  # dropout
        loss, size = self._share(sequences, self._config.item_mask_share, self._draw(epoch, step, 0))
        weight = size * self._worker.size / int(sequences.lengths.sum())
        return loss * weight, float(loss.detach()) * size, size

    @torch.no_grad()
    def validate(self, sequences: Sequences) -> float:
        """Loss per behaviour of the held-out users, under the same noise every time, items masked whole."""
        if len(sequences.items) == 0:
            return math.nan
        self._denoiser.eval()
        total, behaviors = 0.0, 0
        for step, start in enumerate(range(0, len(sequences.items), self._config.batch_size)):
            rows = sequences.rows(slice(start, start + self._config.batch_size))
            loss, size = self._share(rows, 1.0, self._draw(_VALIDATION, step, 0))
            total, behaviors = total + float(loss) * size, behaviors + size
        total, count = self._worker.sum(total, behaviors)
        return total / count

    def _share(self, sequences: Sequences, item_mask_share: float, seed: int) -> tuple[Tensor, int]:
        """Loss per behaviour of this worker's share, and its behaviours; none where there are too few sequences."""
        generator = torch.Generator().manual_seed(seed)
        items, batch = self._items, to_batch(sequences)
        noise = draw_noise(batch.valid_bt, items.codes_nl.shape[1], item_mask_share, generator)
        if len(items.log_prior_n) > self._config.max_softmax_items:
            items, batch = sample_items(items, batch, self._config.max_softmax_items, generator)
        rows, counted = self._worker.share(len(sequences.items))
        batch, noise = rows_of(batch, rows), rows_of(noise, rows)
        with self._worker.autocast():
            loss: Tensor = self._module(
                items, on_device(batch, self._worker.device), on_device(noise, self._worker.device)
            )
        return loss, int(batch.valid_bt.sum()) if counted else 0

    def _draw(self, epoch: int, step: int, use: int) -> int:
        return int(np.random.SeedSequence((self._seed, epoch + 1, step, use)).generate_state(1)[0])


class _Loss(nn.Module):
    """The loss as the forward pass of a module, which is what can be wrapped to average gradients."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, items: ItemTensors, batch: Batch, noise: Noise) -> Tensor:
        return negative_elbo(self.denoiser, items, batch, noise)
