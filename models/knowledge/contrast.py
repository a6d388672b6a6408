"""Contrastive training of the space on co-engagement: what a user turned to lies near *something* he did before.

The score of a target for a history is the log-sum-exp of its cosines with the behaviours (multiple-instance NCE, Miech
et al., arXiv 1912.06430, section 3.2), against the other targets of the batch. Pulling all pairs of a user's items
together instead, as in plain contrastive pairs, was worse: most pairs of a log have nothing to do with each other.

What an item's views cannot tell, a residual of its own may learn. It is dropped out at random in training, so that the
views carry what they can and an item without a log, whose residual is zero, stands where it belongs.

Shape legend: B batch, H history, U distinct items, W width of the views, d dimension.
"""

# ruff: noqa: N806 (shape suffixes)
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from models.knowledge.config import ContrastConfig
from models.knowledge.encoder import Floats
from models.knowledge.engagement import NO_ITEM, Engagement, Rows
from models.knowledge.projection import Projection

_MASKED = -1e4


class Trained(NamedTuple):
    """What training made."""

    projection: Projection
    residuals: Floats
    """[N, d] added to the projected views of each item before they are brought to unit norm."""


def train_projection(
    views: Floats, engagement: Engagement, config: ContrastConfig, *, dimension: int, seed: int
) -> Trained:
    """A projection of views [N, W] to `dimension`, trained on co-engagement; untrained where there is too little."""
    engaged = np.unique(np.append(engagement.targets, engagement.histories[engagement.histories != NO_ITEM]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projection = Projection(views.shape[1], dimension, config.hidden, dropout=config.dropout)
        projection.fit_linear(views)
        own = nn.Parameter(torch.zeros(len(engaged), dimension))
        steps = plan_steps(len(engagement.targets), config)
        if steps:
            trainer = _Trainer(projection, own, engaged, views, config)
            trainer.run(engagement, steps, np.random.default_rng(seed))
    residuals = np.zeros((len(views), dimension), np.float32)
    residuals[engaged] = own.detach().numpy() * np.float32(1 - config.residual_dropout)
    return Trained(projection.eval(), residuals)


def plan_steps(num_targets: int, config: ContrastConfig) -> int:
    """Number of steps: `epochs` passes over the targets, in whole batches."""
    return num_targets // config.batch_size * config.epochs


class _Trainer:
    """Projection and residuals while they are trained."""

    def __init__(
        self, projection: Projection, residuals: nn.Parameter, engaged: Rows, views: Floats, config: ContrastConfig
    ) -> None:
        self._projection, self._residuals, self._engaged = projection, residuals, engaged
        self._views, self._config = views, config
        groups: list[dict[str, Any]] = [
            {"params": list(projection.parameters())},
            {"params": [residuals], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay)

    def run(self, engagement: Engagement, steps: int, rng: np.random.Generator) -> None:
        """Takes so many steps over the shuffled targets."""
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, steps)
        per_epoch, size = steps // self._config.epochs, self._config.batch_size
        self._projection.train()
        for step in range(steps):
            if step % per_epoch == 0:
                order = rng.permutation(len(engagement.targets))
            chosen = order[step % per_epoch * size :][:size]
            self._step(Engagement(*(part[chosen] for part in engagement)))
            schedule.step()

    def _step(self, batch: Engagement) -> None:
        logits = self._score(batch).masked_fill(_related(batch), _MASKED)
        loss = cross_entropy(logits, torch.arange(len(batch.targets)))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _score(self, batch: Engagement) -> Tensor:
        """[B, B] logits of every history for every target; each distinct item is projected once."""
        is_there = batch.histories != NO_ITEM
        items, places = np.unique(np.concatenate([batch.targets, batch.histories[is_there]]), return_inverse=True)
        vectors_Ud = self._project(items)
        history_places = np.zeros(batch.histories.shape, np.int64)
        history_places[is_there] = places[len(batch.targets) :]
        targets_Bd = vectors_Ud[torch.from_numpy(places[: len(batch.targets)])]
        cosines_BHB = vectors_Ud[torch.from_numpy(history_places)] @ targets_Bd.T / self._config.temperature
        return cosines_BHB.masked_fill(torch.from_numpy(~is_there).unsqueeze(-1), _MASKED).logsumexp(1)

    def _project(self, items: Rows) -> Tensor:
        kept = torch.rand(len(items), 1) >= self._config.residual_dropout
        residuals = self._residuals[torch.from_numpy(np.searchsorted(self._engaged, items))]
        return normalize(self._projection(torch.from_numpy(self._views[items])) + residuals * kept, dim=-1)


def _related(batch: Engagement) -> Tensor:
    """[B, B] targets that are no negatives of a history: the same item, the same user, or an item of the history."""
    same = _equal(batch.targets, batch.targets) | _equal(batch.users, batch.users)
    known = (batch.histories[:, :, None] == batch.targets[None, None, :]).any(axis=1)
    related = same | known
    np.fill_diagonal(related, False)
    return torch.from_numpy(related)


def _equal(rows: Rows, columns: Rows) -> NDArray[np.bool_]:
    return np.asarray(rows[:, None] == columns[None, :])
