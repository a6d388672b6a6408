"""Contrastive training on co-engagement: an item that a user turned to lies near *something* they did before.

The score of a target for a history is the log-sum-exp of its cosines with the behaviors, against the other
targets of the batch (multiple-instance NCE, Miech et al., arXiv 1912.06430, section 3.2). Plain contrastive
pairs, which pull all items of a user together, were worse: most pairs of a log have nothing in common.

What an item's views cannot tell, a residual of its own may learn. It is dropped out at random in training,
so that the views carry what they can and an item without a log, whose residual is zero, is placed well too.

The space of all users and those of the folds are trained at once, a thread each. Each draws from a generator
of its own, so the number of threads changes nothing.

Shape legend: B batch, H history, U distinct items, E engaged items, I items, W width of the views,
K principal axes of these, D dimension.
"""

from collections.abc import Callable
from copy import deepcopy
from itertools import count
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim.lr_scheduler import CosineAnnealingLR

from contracts.array_types import BoolArray, FloatArray, IntArray
from contracts.progress import report_progress
from models.knowledge.config import ContrastConfig
from models.knowledge.embedding.coengagement import NO_ITEM, CoEngagement
from models.knowledge.embedding.projection import Dropout, Projection, TrainableProjection
from models.knowledge.embedding.projection_inputs import fit_principal_axes, rotate_inputs
from models.knowledge.embedding.worker_threads import open_worker_threads
from models.training.training_loop import take_optimizer_step

_MASKED_LOGIT: Final = -1e4
_RESIDUAL_DROPOUT: Final = 0.5
"""How often an item's own residual is left out in training, so that its views carry what they can."""
_TEMPERATURE: Final = 0.07
"""Divides the cosines, as usual in contrastive training."""
_WEIGHT_DECAY: Final = 0.05
"""Of the projection; residuals have none."""


class TrainedProjection(NamedTuple):
    """A projection and what the log says beyond it."""

    projection: Projection
    residuals: FloatArray
    """[I, D] added to the projected views of each item before they are brought to unit norm."""


class TrainedSpaces(NamedTuple):
    """What is learned from all users, and from all but one fold of them."""

    whole: TrainedProjection
    folds: list[TrainedProjection]


def train_spaces(
    views: FloatArray, engagement: CoEngagement, config: ContrastConfig, *, dimension: int, seed: int
) -> TrainedSpaces:
    """Trains projections of views [I, W] on co-engagement; less of it than a batch trains nothing."""
    axes = fit_principal_axes(views, dimension)
    rotated_views = rotate_inputs(views, axes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = TrainableProjection(axes.shape[1], dimension)
    # A ranker trains on a user's lists in the space of their fold, which no click of theirs has shaped.
    fold_logs = [
        CoEngagement(*(column[engagement.folds != fold] for column in engagement))
        for fold in range(config.num_folds)
    ]
    logs = [engagement, *fold_logs]
    num_steps = sum(count_training_steps(len(log.targets), config) for log in logs)
    steps_done = count(1)

    def report_step() -> None:
        report_progress("learn the embedding space", next(steps_done), num_steps, "steps")

    def train_on_log(log: CoEngagement) -> TrainedProjection:
        projection = deepcopy(start)
        residuals = _train_projection(projection, rotated_views, log, config, seed, report_step)
        return TrainedProjection(projection.undo_rotation(axes), residuals)

    with open_worker_threads() as pool:
        whole, *folds = pool.map(train_on_log, logs)
    return TrainedSpaces(whole, folds)


def count_training_steps(num_targets: int, config: ContrastConfig) -> int:
    """Number of steps: `epochs` passes over the targets, in whole batches."""
    return num_targets // config.batch_size * config.epochs


def _train_projection(
    projection: TrainableProjection,
    views: FloatArray,
    engagement: CoEngagement,
    config: ContrastConfig,
    seed: int,
    report_step: Callable[[], None],
) -> FloatArray:
    """Trains a projection of views [I, K] in place; returns the residuals [I, D]."""
    engaged_items = np.unique(
        np.append(engagement.targets, engagement.histories[engagement.histories != NO_ITEM])
    )
    residuals_ED = torch.zeros(len(engaged_items), projection.linear.out_features, requires_grad=True)
    rng = np.random.default_rng(seed)
    scorer = _HistoryScorer(projection, residuals_ED, engaged_items, views, rng)
    if count_training_steps(len(engagement.targets), config):
        _train_scorer(scorer, engagement, config, rng, report_step)
    residuals = np.zeros((len(views), residuals_ED.shape[1]), np.float32)
    # Averaged over the dropout: so much of a residual was there in training.
    residuals[engaged_items] = residuals_ED.detach().numpy() * np.float32(1 - _RESIDUAL_DROPOUT)
    return residuals


class _HistoryScorer:
    """Scores targets by the items of a history, with a residual for each engaged item."""

    def __init__(
        self,
        projection: TrainableProjection,
        residuals_ED: Tensor,
        engaged_items: IntArray,
        views: FloatArray,
        rng: np.random.Generator,
    ) -> None:
        self.projection, self.residuals_ED = projection, residuals_ED
        self._engaged_items, self._views = engaged_items, views
        self._rng, self._noise = rng, Dropout(rng)

    def score_batch(self, batch: CoEngagement) -> Tensor:
        """[B, B] logits of every history for every target; each distinct item is projected once."""
        is_behavior_BH = batch.histories != NO_ITEM
        num_targets = len(batch.targets)
        items_U, positions = np.unique(
            np.concatenate([batch.targets, batch.histories[is_behavior_BH]]), return_inverse=True
        )
        target_positions, behavior_positions = positions[:num_targets], positions[num_targets:]
        cells = is_behavior_BH.nonzero()[0] * len(items_U) + behavior_positions
        counts_BU = np.bincount(cells, minlength=num_targets * len(items_U)).reshape(num_targets, -1)
        vectors_UD = self._project_items(items_U)
        cosines_UB = vectors_UD @ vectors_UD[torch.from_numpy(target_positions)].T
        # The log-sum-exp over a history as one product. No cosine is above 1, so no exponential overflows.
        sums_BB = torch.from_numpy(counts_BU.astype(np.float32)) @ ((cosines_UB - 1) / _TEMPERATURE).exp()
        is_in_history = counts_BU[:, target_positions] > 0
        return sums_BB.log().masked_fill(_find_related_targets(batch, is_in_history), _MASKED_LOGIT)

    def _project_items(self, items_U: IntArray) -> Tensor:
        has_residual_U1 = torch.from_numpy(self._rng.random((len(items_U), 1)) >= _RESIDUAL_DROPOUT)
        residuals_UD = self.residuals_ED[torch.from_numpy(np.searchsorted(self._engaged_items, items_U))]
        points_UD = self.projection(torch.from_numpy(self._views[items_U]), self._noise)
        return normalize(points_UD + residuals_UD * has_residual_U1, dim=-1)


def _train_scorer(
    scorer: _HistoryScorer,
    engagement: CoEngagement,
    config: ContrastConfig,
    rng: np.random.Generator,
    report_step: Callable[[], None],
) -> None:
    parameter_groups: list[dict[str, Any]] = [
        {"params": list(scorer.projection.parameters())},
        {"params": [scorer.residuals_ED], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        parameter_groups, config.learning_rate, weight_decay=_WEIGHT_DECAY, fused=True
    )
    steps_per_epoch = len(engagement.targets) // config.batch_size
    schedule = CosineAnnealingLR(optimizer, steps_per_epoch * config.epochs)
    labels_B = torch.arange(config.batch_size)
    for _ in range(config.epochs):
        shuffled_rows = rng.permutation(len(engagement.targets))[: steps_per_epoch * config.batch_size]
        for batch_rows in shuffled_rows.reshape(steps_per_epoch, config.batch_size):
            batch = CoEngagement(*(column[batch_rows] for column in engagement))
            take_optimizer_step(cross_entropy(scorer.score_batch(batch), labels_B), optimizer, schedule)
            report_step()


def _find_related_targets(batch: CoEngagement, is_in_history: BoolArray) -> Tensor:
    """[B, B] targets that are no negatives of a history: its own item or user, or an item of the history."""
    is_same_item = batch.targets[:, None] == batch.targets[None, :]
    is_same_user = batch.users[:, None] == batch.users[None, :]
    is_related = is_same_item | is_same_user | is_in_history
    np.fill_diagonal(is_related, False)
    return torch.from_numpy(is_related)
