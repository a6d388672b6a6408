"""What the ranker adds to the training loop: its batches, its step and its validation.

All randomness of a step derives from (seed, epoch, step, worker), so a resumed run repeats the
uninterrupted one exactly.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from contracts.array_types import IntArray
from models.ranker.config import RankerConfig
from models.ranker.evaluation.ranking_metrics import measure_lists
from models.ranker.lists.mapped_lists import RankingLists
from models.ranker.network.ranker_network import Ranker
from models.ranker.network.score_tower import RankerLogits
from models.ranker.training.list_batches import (
    CatalogueTensors,
    ListBatch,
    make_list_batch,
    plan_batches_by_fold,
    represent_lists,
)
from models.ranker.training.ranking_loss import RankingObjective
from models.training.checkpoint import TrainingState
from models.training.learning_rate import warm_up_then_cosine
from models.training.training_loop import SaveInterval, derive_step_seed, run_epochs, take_optimizer_step
from models.training.worker_processes import Worker

_WARMUP_STEPS = 50
_MAX_GRADIENT_NORM = 1.0
_WEIGHT_DECAY = 1e-2
"""The default of AdamW."""
_PATIENCE = 2
"""Epochs without a better validation score after which training ends."""
_AVERAGE_DECAY = 0.995
_CHECKPOINT_MINUTES = 2.0
"""Between checkpoints inside an epoch: what a killed training does twice at most."""
MAX_VALIDATION_LISTS = 3000
"""Validation lists looked at after each epoch, evenly spread: bounds the time that they take."""
_LISTS_PER_SCORING = 128
_MAX_STANDARDIZED_LISTS = 4096
_LEAST_SPREAD = 0.02


@dataclass
class RankerTrainer:
    """Trains one ranker."""

    network: Ranker
    catalogue: CatalogueTensors
    train_lists: RankingLists
    validation_lists: RankingLists
    """They choose the epoch; there may be none."""
    config: RankerConfig
    worker: Worker
    folds: IntArray
    """Fold of each training list's user, [N]; all 0 where there are no folds."""
    is_shown: bool
    """Are the lists pages that were shown, or sampled? It decides on the loss and on the epoch's measure."""

    def __post_init__(self) -> None:
        self.catalogue = self.catalogue.move_to(self.worker.device)
        steps_per_epoch = int(np.ceil(np.bincount(self.folds) / self.config.batch_size).sum())
        # A short log gets `min_steps` too: its epochs and its patience are stretched.
        self._stretch_factor = math.ceil(self.config.min_steps / (self.config.max_epochs * steps_per_epoch))
        self._max_epochs = self._stretch_factor * self.config.max_epochs
        network = self.network.to(self.worker.device)
        self._standardize_distributions()
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=self.config.learning_rate, weight_decay=_WEIGHT_DECAY
        )
        total_steps = self._max_epochs * steps_per_epoch
        schedule = warm_up_then_cosine(optimizer, warmup_steps=_WARMUP_STEPS, total_steps=total_steps)
        self._average = AveragedModel(network, multi_avg_fn=_move_averages)
        # The first update copies: the average starts at the initial weights.
        self._average.update_parameters(network)
        self.state = TrainingState(network, optimizer, schedule, self._average)
        self._objective = self.worker.average_gradients(
            RankingObjective(network, self.catalogue, is_shown=self.is_shown)
        )
        self._processor_time_s, self._num_candidates = 0.0, 0

    @property
    def samples_per_s(self) -> float:
        """Candidates trained on per second of processor time; 0 where nothing was left to do."""
        return self._num_candidates / self._processor_time_s if self._processor_time_s else 0.0

    def train_network(self, checkpoint: Path) -> None:
        """Trains to the end, from the checkpoint on; leaves the best epoch's weights in the network."""
        run_epochs(
            self,
            max_epochs=self._max_epochs,
            patience=self._stretch_factor * _PATIENCE,
            checkpoint=checkpoint,
            save_interval=SaveInterval(minutes=_CHECKPOINT_MINUTES),
            is_writer=self.worker.rank == 0,
        )

    @torch.no_grad()
    def _standardize_distributions(self) -> None:
        """Fits mean and scale of what the tower reads, on some training lists and with the first weights."""
        sums = torch.zeros(3, 1)
        for rows in np.array_split(
            pick_spread_rows(len(self.train_lists), _MAX_STANDARDIZED_LISTS),
            math.ceil(_MAX_STANDARDIZED_LISTS / _LISTS_PER_SCORING),
        ):
            if not len(rows):
                continue
            batch = make_list_batch(self.train_lists, rows).move_to(self.worker.device)
            _, distributions, _ = self.network.read_lists(
                represent_lists(self.network, self.catalogue, batch)
            )
            if not distributions:
                return
            values_MF = torch.cat(distributions, 1).transpose(1, 2)[batch.mask_BC > 0].double()
            moments = (torch.ones_like(values_MF), values_MF, values_MF.square())
            sums = sums.to(values_MF) + torch.stack([moment.sum(0) for moment in moments])
        count, mean, square = sums[0], sums[1] / sums[0].clamp(min=1), sums[2] / sums[0].clamp(min=1)
        # What hardly varies stays as small as it is: noise must not be blown up.
        spread = (square - mean.square()).clamp(min=0).sqrt().clamp(min=_LEAST_SPREAD)
        if len(mean) == len(self.network.tower.mean_F1) and bool((count > 0).all()):
            self.network.tower.mean_F1.copy_(mean.float().unsqueeze(1))
            self.network.tower.scale_F1.copy_((1 / spread).float().unsqueeze(1))

    def plan_epoch(self, epoch: int) -> list[IntArray]:
        """Lists of each batch."""
        rng = np.random.default_rng([self.config.seed, epoch])
        return plan_batches_by_fold(self.folds, self.train_lists.lengths, self.config.batch_size, rng)

    def train_on_batch(self, rows: IntArray) -> tuple[float, float]:
        """Takes one step; returns its loss."""
        started_s = time.process_time()
        progress = self.state.progress
        torch.manual_seed(
            derive_step_seed(self.config.seed, progress.num_epochs, progress.step, self.worker.rank)
        )
        self.network.train()
        batch = make_list_batch(self.train_lists, rows, int(self.folds[rows[0]]))
        self.train_lists.release_pages()
        loss_sum = self._descend_on_batch(batch.move_to(self.worker.device))
        self._processor_time_s += time.process_time() - started_s
        self._num_candidates += int(batch.mask_BC.sum())
        return loss_sum, 1

    def _descend_on_batch(self, batch: ListBatch) -> float:
        num_lists = len(batch.mask_BC)
        own_share, is_counted = self.worker.take_share(num_lists)
        with self.worker.autocast_losses():
            loss: Tensor = self._objective(
                batch, torch.arange(num_lists, device=self.worker.device)[own_share]
            )
        take_optimizer_step(
            loss * self.worker.num_workers * is_counted,
            self.state.optimizer,
            self.state.schedule,
            max_gradient_norm=_MAX_GRADIENT_NORM,
        )
        self._average.update_parameters(self.network)
        return self.worker.sum_over_workers(float(loss.detach()) * is_counted)[0]

    def validate_epoch(self) -> float:
        """What chooses the epoch, of the averaged weights; nan where no validation list tells.

        NDCG@10 on sampled lists, minus the log loss of the clicks on shown ones.
        How well sampled lists are ordered says next to nothing of the clicks on pages (docs/log.md).
        """
        chosen_rows = pick_spread_rows(len(self.validation_lists), MAX_VALIDATION_LISTS)
        if not len(chosen_rows):
            return math.nan
        own_share, is_counted = self.worker.take_share(len(chosen_rows))
        network = self._average.module
        assert isinstance(network, Ranker)
        measure = _measure_log_likelihood if self.is_shown else _measure_ndcg
        score_sum, num_measured = 0.0, 0
        for batch, logits in score_lists(
            network, self.catalogue, self.validation_lists, chosen_rows[own_share]
        ):
            placed_logits = network.add_position_bias(logits) if self.is_shown else logits
            batch_sum, batch_count = measure(placed_logits.click, batch)
            score_sum, num_measured = score_sum + batch_sum, num_measured + batch_count
        score_sum, num_all_measured = self.worker.sum_over_workers(
            score_sum * is_counted, float(num_measured * is_counted)
        )
        return score_sum / num_all_measured if num_all_measured else math.nan


def _measure_ndcg(click_BC: Tensor, batch: ListBatch) -> tuple[float, int]:
    """Sum of the lists' NDCG@10, and how many of them have one."""
    is_real_BC = batch.mask_BC > 0
    offsets = np.concatenate([[0], np.cumsum(is_real_BC.sum(1).numpy())])
    ndcg_B = measure_lists(
        click_BC[is_real_BC].numpy(), batch.clicks_BC[is_real_BC].numpy() > 0, offsets
    ).ndcg
    return float(np.nansum(ndcg_B)), int(np.sum(~np.isnan(ndcg_B)))


def _measure_log_likelihood(click_BC: Tensor, batch: ListBatch) -> tuple[float, int]:
    """Sum of the candidates' log-likelihoods, and their number."""
    losses = binary_cross_entropy_with_logits(
        click_BC, batch.clicks_BC, weight=batch.mask_BC, reduction="sum"
    )
    return -float(losses), int(batch.mask_BC.sum())


def _move_averages(averages: PARAM_LIST, weights: PARAM_LIST, num_averaged: Tensor | int) -> None:
    """Polyak averaging that forgets the first steps sooner: with a fixed decay they would count for long."""
    decay = min(_AVERAGE_DECAY, int(num_averaged) / (int(num_averaged) + 9))
    get_ema_multi_avg_fn(decay)(averages, weights, num_averaged)  # type: ignore[no-untyped-call]


def score_lists(
    network: Ranker, catalogue: CatalogueTensors, lists: RankingLists, chosen_rows: IntArray
) -> Iterator[tuple[ListBatch, RankerLogits]]:
    """Scores lists with the torch network, batch by batch, in the order of their histories' lengths."""
    network.eval()
    by_length = chosen_rows[np.argsort(lists.lengths[chosen_rows], kind="stable")]
    with torch.inference_mode():
        for first_list in range(0, len(by_length), _LISTS_PER_SCORING):
            batch = make_list_batch(lists, by_length[first_list : first_list + _LISTS_PER_SCORING])
            logits = network.compute_logits(
                represent_lists(network, catalogue, batch.move_to(catalogue.vectors.device))
            )
            spend_BC = None if logits.spend is None else logits.spend.cpu()
            yield batch, RankerLogits(logits.click.cpu(), logits.conversion.cpu(), spend_BC, None)


def pick_spread_rows(num_rows: int, max_rows: int) -> IntArray:
    """At most `max_rows` row numbers, evenly spread."""
    return np.linspace(0, num_rows - 1, min(num_rows, max_rows)).astype(np.int64)
