"""The ranker's opinion of a candidate and the behaviour model's, weighed against each other.

Both models, and the item space between them, have learnt from the clicks of the training lists, so there the behaviour
model looks better than it is: inside the tower its confidence gains a third of what it does here. The weights are
therefore fitted when all else is done, on validation lists, and only kept if they rank better where they were not
fitted (two halves, each judged by the weights of the other).

Shape legend: B batch, C candidates, F features, L lists.
"""

# ruff: noqa: N803, N806 (shape suffixes)
from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, pad

from models.ranker.metrics import Reals, list_metrics

_HIDDEN, _EPOCHS, _BATCH, _RATE, _DECAY = 32, 30, 128, 3e-3, 1e-3
_NUM_FEATURES = 3
_MASKED = -1e4


class Opinions(NamedTuple):
    """What both models think of the candidates of some lists, [L, C] each."""

    clicks: Tensor
    """Logits of the ranker."""
    confidences: Tensor
    """Of the behaviour model (`confidences.py`)."""
    mask: Tensor
    """1 where there is a candidate, else 0."""
    labels: Tensor
    """1 where there was a click, else 0."""

    def of(self, lists: Tensor) -> "Opinions":
        """Some of the lists."""
        return Opinions(*(values[lists] for values in self))


class Fusion(nn.Module):
    """What is added to the click's logit: nothing until it was fitted."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(_NUM_FEATURES))
        self.register_buffer("scale", torch.ones(_NUM_FEATURES))
        self.linear = nn.Linear(_NUM_FEATURES, 1, bias=False)
        self.hidden = nn.Sequential(nn.Linear(_NUM_FEATURES, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1, bias=False))
        for last in (self.linear.weight, self.hidden[-1].weight):
            assert isinstance(last, Tensor)
            nn.init.zeros_(last)

    def forward(self, click_BC: Tensor, confidences_BC: Tensor) -> Tensor:
        """[B, C]"""
        features_BCF = (_features(click_BC, confidences_BC) - self.mean) / self.scale
        added: Tensor = (self.linear(features_BCF) + self.hidden(features_BCF)).squeeze(-1)
        return added


def fit_fusion(fusion: Fusion, opinions: Opinions, *, seed: int) -> float:
    """Fits the weights where they pay, else leaves them as they are; returns the relative gain of NDCG@10 found.

    Args:
        fusion: as it was made.
        opinions: validation lists that neither model learnt from.
        seed: of the halves and the order of lists.
    """
    order = torch.randperm(len(opinions.clicks), generator=torch.Generator().manual_seed(seed))
    halves = order.tensor_split(2)
    if not min(len(half) for half in halves):
        return 0.0
    after = np.zeros(len(order))
    for fits, judges in (halves, halves[::-1]):
        after[judges] = _ndcg(_fit(deepcopy(fusion), opinions.of(fits), seed), opinions.of(judges))
    before = np.nanmean(_ndcg(fusion, opinions))
    gain = float(np.nanmean(after) / before - 1)
    if not gain > 0:
        return 0.0
    _fit(fusion, opinions, seed)
    return gain


def stack_opinions(parts: Iterable[Opinions]) -> Opinions:
    """Batches of lists as one."""
    found = list(parts)
    width = max(part.mask.shape[1] for part in found)
    columns = zip(*found, strict=True)
    return Opinions(*(torch.cat([pad(part, (0, width - part.shape[1])) for part in column]) for column in columns))


def _fit(fusion: Fusion, opinions: Opinions, seed: int) -> Fusion:
    """Descends on the softmax over each list's candidates."""
    known = _features(opinions.clicks, opinions.confidences)[opinions.mask > 0]
    fusion.mean.copy_(known.mean(0))
    fusion.scale.copy_(known.std(0).clamp_min(1e-6))
    optimizer = torch.optim.AdamW(fusion.parameters(), _RATE, weight_decay=_DECAY)
    random = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(_EPOCHS):
            for lists in torch.split(torch.randperm(len(opinions.clicks), generator=random), _BATCH):
                some = opinions.of(lists)
                shares = log_softmax(_fused(fusion, some), 1) * some.labels
                optimizer.zero_grad()
                torch.autograd.backward(-(shares.sum(1) / some.labels.sum(1).clamp_min(1)).mean())
                optimizer.step()
    return fusion


def _fused(fusion: Fusion, opinions: Opinions) -> Tensor:
    added: Tensor = fusion(opinions.clicks, opinions.confidences)
    return opinions.clicks + added + (1 - opinions.mask) * _MASKED


def _features(click_BC: Tensor, confidences_BC: Tensor) -> Tensor:
    is_named_BC = (confidences_BC > 0).to(confidences_BC.dtype)
    return torch.stack([click_BC, confidences_BC, is_named_BC], -1)


@torch.no_grad()
def _ndcg(fusion: Fusion, opinions: Opinions) -> Reals:
    """NDCG@10 of each list, [L]."""
    real = opinions.mask > 0
    counts = np.cumsum([0, *real.sum(1).tolist()])
    return list_metrics(_fused(fusion, opinions)[real].numpy(), (opinions.labels[real] > 0).numpy(), counts).ndcg
