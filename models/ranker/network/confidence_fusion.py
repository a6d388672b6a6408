"""The ranker's opinion of a candidate and the behavior model's, weighed against each other.

Both models, and the item space between them, have learned from the clicks of the training lists. There the
behavior model looks better than it is: inside the tower its confidence gains a third of what it does here. So
the weights are fitted when all else is done, on validation lists. They are kept only if they rank better
where they were not fitted (two halves, each judged by the weights of the other).

Shape legend: B batch, C candidates, F features, L lists.
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, pad

from contracts.array_types import DoubleArray
from models.ranker.evaluation.ranking_metrics import measure_lists

_HIDDEN_WIDTH, _NUM_EPOCHS, _BATCH_SIZE, _LEARNING_RATE, _WEIGHT_DECAY = 32, 30, 128, 3e-3, 1e-3
_MIN_LISTS = 20
"""Fewer say nothing of a gain."""
_NUM_FEATURES = 3
_MASKED = -1e4


class Opinions(NamedTuple):
    """What both models think of the candidates of some lists, [L, C] each."""

    clicks: Tensor
    """Logits of the ranker."""
    confidences: Tensor
    """Of the behavior model (`candidate_confidences.py`)."""
    mask: Tensor
    """1 where there is a candidate, else 0."""
    labels: Tensor
    """1 where there was a click, else 0."""

    def take_lists(self, lists: Tensor) -> "Opinions":
        """Takes some of the lists."""
        return Opinions(*(values[lists] for values in self))


class ConfidenceFusion(nn.Module):
    """What is added to the click's logit: nothing until it was fitted."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(_NUM_FEATURES))
        self.register_buffer("scale", torch.ones(_NUM_FEATURES))
        self.linear = nn.Linear(_NUM_FEATURES, 1, bias=False)
        self.hidden = nn.Sequential(
            nn.Linear(_NUM_FEATURES, _HIDDEN_WIDTH), nn.GELU(), nn.Linear(_HIDDEN_WIDTH, 1, bias=False)
        )
        # Zero weights: nothing is added before the fit.
        for last_weight in (self.linear.weight, self.hidden[-1].weight):
            assert isinstance(last_weight, Tensor)
            nn.init.zeros_(last_weight)

    def forward(self, click_BC: Tensor, confidences_BC: Tensor) -> Tensor:
        """[B, C]"""
        features_BCF = (_stack_features(click_BC, confidences_BC) - self.mean) / self.scale
        added_BC: Tensor = (self.linear(features_BCF) + self.hidden(features_BCF)).squeeze(-1)
        return added_BC


def fit_fusion(fusion: ConfidenceFusion, opinions: Opinions, *, seed: int) -> float:
    """Fits the weights where they pay, else leaves them as they are; returns the relative gain of NDCG@10.

    Args:
        fusion: as it was made.
        opinions: validation lists that neither model learned from.
        seed: of the halves and the order of lists.
    """
    list_order = torch.randperm(len(opinions.clicks), generator=torch.Generator().manual_seed(seed))
    halves = list_order.tensor_split(2)
    if len(list_order) < _MIN_LISTS:
        return 0.0
    fused_ndcg = np.zeros(len(list_order))
    # Each half is judged by weights that have not seen it.
    for fit_half, test_half in (halves, halves[::-1]):
        fitted = _train_fusion(deepcopy(fusion), opinions.take_lists(fit_half), seed)
        fused_ndcg[test_half.numpy()] = _measure_ndcg(fitted, opinions.take_lists(test_half))
    plain_ndcg = np.nanmean(_measure_ndcg(fusion, opinions))
    relative_gain = float(np.nanmean(fused_ndcg) / plain_ndcg - 1)
    if not relative_gain > 0:
        return 0.0
    # Both halves together give the weights that ship.
    _train_fusion(fusion, opinions, seed)
    return relative_gain


def stack_opinions(batches: Iterable[Opinions]) -> Opinions:
    """Joins batches of lists, padded to the longest list."""
    all_batches = list(batches)
    num_candidates = max(batch.mask.shape[1] for batch in all_batches)
    return Opinions(
        *(
            torch.cat([pad(values, (0, num_candidates - values.shape[1])) for values in column])
            for column in zip(*all_batches, strict=True)
        )
    )


def _train_fusion(fusion: ConfidenceFusion, opinions: Opinions, seed: int) -> ConfidenceFusion:
    """Descends on the softmax over each list's candidates."""
    real_features = _stack_features(opinions.clicks, opinions.confidences)[opinions.mask > 0]
    fusion.mean.copy_(real_features.mean(0))
    fusion.scale.copy_(real_features.std(0).clamp_min(1e-6))
    optimizer = torch.optim.AdamW(fusion.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(_NUM_EPOCHS):
            shuffled_lists = torch.randperm(len(opinions.clicks), generator=generator)
            for batch_lists in torch.split(shuffled_lists, _BATCH_SIZE):
                batch = opinions.take_lists(batch_lists)
                log_likelihood = log_softmax(_fuse_logits(fusion, batch), 1) * batch.labels
                num_clicks = batch.labels.sum(1).clamp_min(1)
                optimizer.zero_grad()
                torch.autograd.backward(-(log_likelihood.sum(1) / num_clicks).mean())
                optimizer.step()
    return fusion


def _fuse_logits(fusion: ConfidenceFusion, opinions: Opinions) -> Tensor:
    added_LC: Tensor = fusion(opinions.clicks, opinions.confidences)
    return opinions.clicks + added_LC + (1 - opinions.mask) * _MASKED


def _stack_features(click_BC: Tensor, confidences_BC: Tensor) -> Tensor:
    is_inferred_BC = (confidences_BC > 0).to(confidences_BC.dtype)
    return torch.stack([click_BC, confidences_BC, is_inferred_BC], -1)


@torch.no_grad()
def _measure_ndcg(fusion: ConfidenceFusion, opinions: Opinions) -> DoubleArray:
    """NDCG@10 of each list, [L]."""
    is_real_LC = opinions.mask > 0
    offsets = np.cumsum([0, *is_real_LC.sum(1).tolist()])
    scores = _fuse_logits(fusion, opinions)[is_real_LC].numpy()
    return measure_lists(scores, (opinions.labels[is_real_LC] > 0).numpy(), offsets).ndcg
