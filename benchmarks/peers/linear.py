"""Peers without training by gradient: popularity, item-kNN, text-kNN, EASE, EASE with text.

Shape letters: B users, T behaviours, N items, d length of a text vector.
"""

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
import torch

from benchmarks.behavior_protocol import Ints, mean, measure_lists
from benchmarks.peers.log import NO_ITEM, Floats, PeerLog, Scorer, by_score, lists_of, validate

_SHRINKAGE = 10.0
_KNN_POWERS = (0.5, 0.7)
_EASE_PENALTIES = (100.0, 300.0, 1000.0)
_TEXT_WEIGHTS = (0.0, 0.03, 0.06, 0.1, 0.2, 0.4)
_CRITERIA = {"ease_text": ("all", "recall10"), "ease_text_nonhead": ("nonhead", "recall20")}


def popularity(log: PeerLog) -> Scorer:
    """How many users have the item."""
    counts = log.task.visible_counts.astype(np.float32)
    return lambda histories: np.broadcast_to(counts, (len(histories), len(counts)))


def item_knn(log: PeerLog) -> Scorer:
    """Sum of the shrunk co-occurrence with each behaviour (Sarwar et al., WWW 2001); the norm's power is tuned."""
    together = _gram(log)
    counts = together.diagonal().copy()
    np.fill_diagonal(together, 0)

    def made() -> Iterator[Scorer]:
        for power in _KNN_POWERS:
            norms = (counts + 1) ** power
            yield _product((together / (np.outer(norms, norms) + _SHRINKAGE)).astype(np.float32), log)

    return best(log, made())


def text_knn(log: PeerLog) -> Scorer:
    """Largest cosine of the raw text vectors to any behaviour."""
    cosines = log.vectors @ log.vectors.T

    def score(histories: Ints) -> Floats:
        found = np.full((len(histories), log.num_items), -1, np.float32)
        for items in histories.T:
            rows = np.flatnonzero(items != NO_ITEM)
            found[rows] = np.maximum(found[rows], cosines[items[rows]])
        return found

    return score


def ease(log: PeerLog) -> Scorer:
    """EASE (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, eq. 8); the penalty is tuned."""
    gram = _gram(log)
    return best(log, (_product(_ease_weights(gram, penalty), log) for penalty in _EASE_PENALTIES))


def ease_text(log: PeerLog, text_scorer: Scorer) -> dict[str, Scorer]:
    """EASE's score plus a weight times the largest text cosine; penalty and weight are tuned together.

    Returns:
        `ease_text`, tuned for recall@10, and `ease_text_nonhead`, tuned for recall@20 outside the head: text costs
        recall among the most popular items and gains it elsewhere; a figure is compared with the mixture tuned for it.
    """
    gram = _gram(log)
    highest = dict.fromkeys(_CRITERIA, -1.0)
    kept: dict[str, Scorer] = {}
    for penalty in _EASE_PENALTIES:
        shallow = _product(_ease_weights(gram, penalty), log)
        for weight in _TEXT_WEIGHTS:
            scorer = _mixed(shallow, text_scorer, weight)
            for name, value in _criteria(log, scorer).items():
                if value > highest[name]:
                    highest[name], kept[name] = value, scorer
    return kept


def best(log: PeerLog, scorers: Iterator[Scorer]) -> Scorer:
    """The scorer with the best validation recall@10; only two are alive at once."""
    kept, highest = next(scorers), -1.0
    highest = validate(log, by_score(kept))
    for scorer in scorers:
        found = validate(log, by_score(scorer))
        if found > highest:
            kept, highest = scorer, found
    return kept


def indicators(histories: Ints, num_items: int) -> sp.csr_matrix:
    """[B, N] 1 for each behaviour."""
    row, column = np.nonzero(histories != NO_ITEM)
    values = np.ones(len(row), np.float32)
    return sp.csr_matrix((values, (row, histories[row, column])), shape=(len(histories), num_items))


def _product(weights: Floats, log: PeerLog) -> Scorer:
    return lambda histories: np.asarray(indicators(histories, log.num_items) @ weights, np.float32)


def _gram(log: PeerLog) -> Floats:
    return np.asarray((log.clicks.T @ log.clicks).toarray(), np.float32)


def _ease_weights(gram: Floats, penalty: float) -> Floats:
    """B = I - P / diag(P) with P = (X'X + penalty I)^-1, by Cholesky in single precision."""
    regular = torch.from_numpy(gram).clone()
    regular.diagonal().add_(penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(regular))
    weights = inverse.div_(-inverse.diagonal())
    weights.fill_diagonal_(0)
    return np.asarray(weights.numpy())


def _mixed(first: Scorer, second: Scorer, weight: float) -> Scorer:
    return lambda histories: first(histories) + np.float32(weight) * second(histories)


def _criteria(log: PeerLog, scorer: Scorer) -> dict[str, float]:
    """What each mixture is tuned for, on the validation users."""
    scores = measure_lists(log.task, lists_of(log, by_score(scorer), log.validation_users))
    return {
        name: mean(scores, log.task, slice_name=part, metric=metric, validation=True)
        for name, (part, metric) in _CRITERIA.items()
        if part in scores
    }


Fit = Callable[[PeerLog], Scorer]
