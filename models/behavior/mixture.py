"""How much each part of a score counts: a log-linear mixture, fitted by maximum likelihood.

Shape letters: U users, N items, F parts.
"""

import torch
from torch import Tensor

from contracts.config import Config
from models.behavior.tensors import Batch

_MAX_STEPS = 25
_START = (1.0, 0.5, 1.0)
"""Where the fit starts and, by one user's worth of doubt, where it stays."""


class Weights(Config):
    """score = popularity log P(item) + context (hidden . item) + association log(...) + cooccurrence log(...)."""

    popularity: float = 1.0
    """Of the log prior."""
    context: float = 1.0
    """Of the transformer's answer."""
    association: float = 1.0
    """Of what lies near something in the history."""
    cooccurrence: float = 0.0
    """Of what users of the history's items also turned to."""

    @property
    def values(self) -> tuple[float, float, float, float]:
        """In the order of `decode.Parts`."""
        return self.popularity, self.context, self.association, self.cooccurrence


def fit_weights(parts: tuple[Tensor, ...], excluded_un: Tensor, hidden: Batch, *, cooccurrence: float) -> Weights:
    """Maximises the mean log-probability of users' hidden items.

    Args:
        parts: popularity, context, association, co-occurrence of every item, [U, N] each (or [N]).
        excluded_un: items that cannot be hidden ones.
        hidden: the hidden items of each user.
        cooccurrence: weight of the last part, which is given.
    """
    *fitted, last = parts
    fixed_un = torch.where(excluded_un, -torch.inf, last * cooccurrence)
    start = torch.tensor(_START)
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")
    share_ut = hidden.valid_bt / hidden.valid_bt.sum(1, keepdim=True).clamp_min(1)

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores_un = sum((weight * part for weight, part in zip(weights, fitted, strict=True)), fixed_un)
        found_ut = scores_un.log_softmax(1).gather(1, hidden.items_bt).masked_fill(~hidden.valid_bt, 0.0)
        doubt = (weights - start).square().sum() / len(found_ut)
        total = doubt - (found_ut * share_ut).sum(1).mean()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    popularity, context, association = weights.detach().clamp_min(0).tolist()
    return Weights(popularity=popularity, context=context, association=association, cooccurrence=cooccurrence)
