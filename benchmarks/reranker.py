"""A small listwise re-ranker: what do features of a candidate add to a ranker's score?

Every feature is standardised within its list, beside its value over all lists, so that a feature which is the same for
all candidates can only say when to trust the others. Loss: softmax over the candidates of a list.

Shape letters: L lists, C candidates of a list, F features.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.ranker.metrics import Reals, list_metrics

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_HIDDEN, _EPOCHS, _BATCH, _RATE, _DECAY = 32, 30, 128, 3e-3, 1e-3
_CHOOSING_SHARE = 0.2
_ABSENT = -1e4


class Reranker(nn.Module):
    """A linear model and a hidden layer beside it."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))
        self.linear = nn.Linear(2 * num_features, 1)
        self.hidden = nn.Sequential(nn.Linear(2 * num_features, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1))

    def forward(self, features_lcf: Tensor, mask_lc: Tensor) -> Tensor:
        """Scores [L, C]; places without a candidate are far below all others."""
        real = mask_lc[..., None].float()
        count = real.sum(1, keepdim=True).clamp_min(1)
        centred = (features_lcf - (features_lcf * real).sum(1, keepdim=True) / count) * real
        within = centred / ((centred**2).sum(1, keepdim=True) / count).sqrt().clamp_min(1e-6)
        overall = (features_lcf - self.get_buffer("mean")) / self.get_buffer("scale")
        both = torch.cat([within, overall], dim=2)
        scores: Tensor = (self.linear(both) + self.hidden(both))[..., 0]
        return scores.masked_fill(~mask_lc, _ABSENT)


def fit_reranker(features: Floats, mask: npt.NDArray[np.bool_], clicked: Ints, *, seed: int) -> Reranker:
    """Trains on lists and keeps the epoch with the smallest loss on a fifth of them.

    Args:
        features: [L, C, F].
        mask: which places hold a candidate, [L, C].
        clicked: place of the target, [L].
        seed: of initialisation, order and the fifth.
    """
    torch.manual_seed(seed)
    inputs, masks, targets = torch.from_numpy(features), torch.from_numpy(mask), torch.from_numpy(clicked)
    order = torch.randperm(len(inputs))
    chooses, learns = order.tensor_split([int(len(order) * _CHOOSING_SHARE)])
    model = Reranker(features.shape[2])
    present = inputs[learns][masks[learns]]
    model.get_buffer("mean").copy_(present.mean(0))
    model.get_buffer("scale").copy_(present.std(0).clamp_min(1e-6))
    optimizer = torch.optim.AdamW(model.parameters(), _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
    best, kept = float("inf"), model.state_dict()
    for _ in range(_EPOCHS):
        for rows in torch.split(learns[torch.randperm(len(learns))], _BATCH):
            optimizer.zero_grad()
            cross_entropy(model(inputs[rows], masks[rows]), targets[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        loss = float(cross_entropy(score(model, inputs[chooses], masks[chooses]), targets[chooses]))
        if loss < best:
            best, kept = loss, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    return model


@torch.no_grad()
def score(model: Reranker, features_lcf: Tensor, mask_lc: Tensor) -> Tensor:
    """Scores [L, C]."""
    scores: Tensor = model(features_lcf, mask_lc)
    return scores


def ndcg10(scores: Floats, clicked: Ints) -> Reals:
    """NDCG@10 of each list with one target, [L]."""
    labels = np.arange(scores.shape[1]) == clicked[:, None]
    offsets = np.arange(len(scores) + 1, dtype=np.int64) * scores.shape[1]
    return list_metrics(scores.ravel(), labels.ravel(), offsets).ndcg
