"""How much each term of a score counts: a log-linear mixture, fitted by maximum likelihood."""

import torch
from torch import Tensor

from contracts.config import Config
from models.behavior.sequences.sequence_tensors import SequenceBatch

_MAX_STEPS = 25
_START = (1.0, 0.5, 1.0)
"""Where the fit starts and, by one user's worth of doubt, where it stays."""


class ScoreWeights(Config):
    """What the terms of the score in `slot_decoder.py` are multiplied by."""

    popularity: float = 1.0
    """Of the log prior."""
    context: float = 1.0
    """Of the transformer's answer."""
    association: float = 1.0
    """Of what lies near something in the history."""
    cooccurrence: float = 0.0
    """Of what users of the history's items also turned to."""
    complement: float = 0.0
    """Of what goes with something in the history."""

    @property
    def values(self) -> tuple[float, float, float, float, float]:
        """In the order of `slot_decoder.ScoreTerms`."""
        return self.popularity, self.context, self.association, self.cooccurrence, self.complement


def fit_score_weights(
    terms: tuple[Tensor, ...], is_excluded_BI: Tensor, hidden: SequenceBatch, *, given: ScoreWeights
) -> ScoreWeights:
    """Maximizes the mean log-probability of users' hidden items.

    Args:
        terms: popularity, context, association, co-occurrence, complement of every item, [B, I] each (or [I],
            or one number).
        is_excluded_BI: items that cannot be hidden ones.
        hidden: the hidden items of each user.
        given: co-occurrence and complement are taken from here; the others are fitted.
    """
    *fitted_terms, cooccurrence_term, complement_term = terms
    given_scores_BI = cooccurrence_term * given.cooccurrence + complement_term * given.complement
    fixed_scores_BI = torch.where(is_excluded_BI, -torch.inf, given_scores_BI)
    start_weights = torch.tensor(_START)
    weights = start_weights.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")
    share_BT = hidden.is_valid_BT / hidden.is_valid_BT.sum(1, keepdim=True).clamp_min(1)

    def compute_loss() -> Tensor:
        optimizer.zero_grad()
        scores_BI = sum(
            (weight * term for weight, term in zip(weights, fitted_terms, strict=True)), fixed_scores_BI
        )
        hidden_BT = scores_BI.log_softmax(1).gather(1, hidden.items_BT)
        log_probabilities_BT = hidden_BT.masked_fill(~hidden.is_valid_BT, 0.0)
        doubt = (weights - start_weights).square().sum() / len(log_probabilities_BT)
        total_loss = doubt - (log_probabilities_BT * share_BT).sum(1).mean()
        total_loss.backward()  # type: ignore[no-untyped-call]
        return total_loss

    optimizer.step(compute_loss)  # type: ignore[no-untyped-call]
    popularity, context, association = weights.detach().clamp_min(0).tolist()
    return given.model_copy(update={"popularity": popularity, "context": context, "association": association})
