"""Which of the scored items make a user's list: the surest by default; drawn at random, or varied, when asked for.

Shape letters: B users, M items that may be chosen, K items of a list, C candidates, V length of the knowledge vector.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_CANDIDATES = 8
"""Items per place of the list among which variety is sought."""


class Choice(NamedTuple):
    """How lists are chosen."""

    temperature: float = 0.0
    """0: the surest items; else draws without replacement from probabilities to the power 1 / temperature."""
    diversity: float = 0.0
    """Nats of log-confidence that an item loses when it equals one already chosen; in proportion by cosine."""
    seed: int = 0
    """Of the draws."""


SUREST = Choice()


def choose(
    scores_bm: Tensor,
    items_bm: Tensor,
    vectors_nv: Tensor,
    users_b: npt.NDArray[np.uint32],
    *,
    num_items: int,
    choice: Choice,
) -> tuple[Tensor, Tensor]:
    """The chosen items and their scores, surest first, [B, K] each; score 0 where the list is shorter.

    Args:
        scores_bm: confidences; 0 where nothing may be chosen.
        items_bm: the items they belong to.
        vectors_nv: knowledge vectors of the whole catalogue, unit norm.
        users_b: a number for each user, which with the seed gives the user's draws, in whatever batch.
        num_items: K, if there are so many.
        choice: how to choose.
    """
    num_items = min(num_items, scores_bm.shape[1])
    if choice.temperature == 0 and choice.diversity == 0:
        best = scores_bm.topk(num_items, dim=1)
        return items_bm.gather(1, best.indices), best.values
    keys_bm = scores_bm.log()
    if choice.temperature > 0:
        # The K largest of log p / temperature + Gumbel noise are K draws without replacement (Kool et al., 2019).
        keys_bm = keys_bm / choice.temperature + gumbel_noise(items_bm, users_b, choice.seed)
    keys_bk, columns_bk = _most_varied(keys_bm, items_bm, vectors_nv, num_items, choice.diversity)
    chosen_bk = scores_bm.gather(1, columns_bk).where(keys_bk > -torch.inf, 0.0)
    scores_bk, order_bk = chosen_bk.sort(dim=1, descending=True, stable=True)
    return items_bm.gather(1, columns_bk).gather(1, order_bk), scores_bk


def gumbel_noise(items_bm: Tensor, users_b: npt.NDArray[np.uint32], seed: int) -> Tensor:
    """Gumbel noise that depends on seed, user and item alone (SplitMix64 of the three), [B, M]."""
    users_b1 = _mix(users_b.astype(np.uint64)[:, None] + (np.uint64(seed) << np.uint64(32)))
    bits_bm = _mix(users_b1 ^ items_bm.numpy().astype(np.uint64)) >> np.uint64(11)
    uniform_bm = (bits_bm.astype(np.float64) + 0.5) * 2.0**-53
    return torch.from_numpy(-np.log(-np.log(uniform_bm))).float()


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _most_varied(
    keys_bm: Tensor, items_bm: Tensor, vectors_nv: Tensor, num_items: int, diversity: float
) -> tuple[Tensor, Tensor]:
    """Keys and columns of the items with the largest maximal marginal relevance (Carbonell and Goldstein, 1998)."""
    if diversity == 0:
        best = keys_bm.topk(num_items, dim=1)
        return best.values, best.indices
    candidates = keys_bm.topk(min(num_items * _CANDIDATES, keys_bm.shape[1]), dim=1)
    vectors_bcv = vectors_nv[items_bm.gather(1, candidates.indices)]
    open_bc, likeness_bc = candidates.values.clone(), torch.zeros_like(candidates.values)
    chosen = []
    for _ in range(num_items):
        best_b1 = (open_bc - diversity * likeness_bc).argmax(1, keepdim=True)
        chosen.append((open_bc.gather(1, best_b1), best_b1))
        best_b1v = vectors_bcv.gather(1, best_b1[..., None].expand(-1, 1, vectors_bcv.shape[2]))
        likeness_bc = torch.maximum(likeness_bc, (vectors_bcv @ best_b1v.mT)[..., 0])
        open_bc.scatter_(1, best_b1, -torch.inf)
    keys_bk, columns_bk = (torch.cat(parts, 1) for parts in zip(*chosen, strict=True))
    return keys_bk, candidates.indices.gather(1, columns_bk)
