"""Exploration: the order of a page is drawn a little, and each place is told its exact propensity.

Both kinds begin with an order (by score, or drawn by Plackett-Luce) in which a few places are then drawn
evenly. The numbers drawn are a hash of the request's id, so a retry shows the same page, whichever gateway
answers it.
"""

import hashlib
from typing import Final, NamedTuple

import numpy as np

from contracts.array_types import BoolArray, DoubleArray, FloatArray, IntArray
from serving.config import ExplorationConfig

_NUM_BITS: Final = 52
"""Of a drawn number: so few that it is neither 0 nor 1 after rounding."""


class PageOrder(NamedTuple):
    """What a page shows, from its first place on."""

    rows: IntArray
    """[P] rows of the candidates."""
    propensities: DoubleArray
    """[P] probability of each at its place, given those above it."""


def draw_page(
    scores: FloatArray, config: ExplorationConfig, *, request_id: str, limit: int | None
) -> PageOrder:
    """Orders candidates as the configuration says.

    Args:
        scores: [C], higher is better; of equal ones the first comes first.
        config: how freely.
        request_id: seeds the draw.
        limit: places of the page; None shows all.
    """
    if config.kind == "none":
        return order_by_score(scores, limit=limit)
    order = order_by_score(scores, limit=None).rows
    num_places = len(order) if limit is None else min(limit, len(order))
    draw = _draw_top_k if config.kind == "top_k" else _draw_epsilon
    return draw(order, scores, config, request_id=request_id, num_places=num_places)


def order_by_score(scores: FloatArray, *, limit: int | None) -> PageOrder:
    """The best candidates first, with certainty."""
    rows = np.argsort(-scores, kind="stable")[:limit]
    return PageOrder(rows, np.ones(len(rows)))


def _draw_top_k(
    order: IntArray, scores: FloatArray, config: ExplorationConfig, *, request_id: str, num_places: int
) -> PageOrder:
    """Draws the order of the best k candidates: Plackett-Luce over their scores, mixed with even draws.

    With m candidates left, each has the probability (1 - m f) softmax + f: never below the floor f.
    """
    num_drawn = min(config.top_k, len(order))
    best_rows = order[:num_drawn]
    gumbel_numbers, jump_numbers, target_numbers = _hash_to_uniforms(
        config.salt, request_id, 3 * num_drawn
    ).reshape(3, num_drawn)
    logits = _standardize(scores[best_rows]) / config.temperature
    # Sorting by logits + Gumbel noise is one draw of Plackett-Luce. Taking others out by draws of their own
    # leaves the order of the rest such a draw.
    drawn_order = np.argsort(-(logits - np.log(-np.log(gumbel_numbers))), kind="stable")
    num_left = num_drawn - np.arange(num_drawn)
    is_jump = jump_numbers < num_left * config.min_propensity
    drawn_order = _apply_jumps(drawn_order, is_jump, (target_numbers * num_left).astype(np.int64))
    ordered_logits = logits[drawn_order]
    # In logarithms: far behind the best, exponentials would be 0 and their ratios nothing.
    log_sums_left = np.logaddexp.accumulate(ordered_logits[::-1])[::-1]
    choice_probabilities = np.exp(ordered_logits - log_sums_left)
    probabilities = (1 - num_left * config.min_propensity) * choice_probabilities + config.min_propensity
    rows = np.concatenate([best_rows[drawn_order], order[num_drawn:]])[:num_places]
    propensities = np.ones(num_places)
    propensities[:num_drawn] = probabilities[:num_places]
    return PageOrder(rows, np.minimum(propensities, 1.0))


def _draw_epsilon(
    order: IntArray, _: FloatArray, config: ExplorationConfig, *, request_id: str, num_places: int
) -> PageOrder:
    """With probability epsilon a place goes to one of the best remaining candidates, drawn evenly."""
    jump_numbers, target_numbers = _hash_to_uniforms(config.salt, request_id, 2 * num_places).reshape(
        2, num_places
    )
    max_drawn = int(config.epsilon / config.min_propensity + 1e-9)
    num_left = np.minimum(len(order) - np.arange(num_places), max_drawn)
    is_jump = jump_numbers < config.epsilon
    steps = np.where(is_jump, (target_numbers * num_left).astype(np.int64), 0)
    rows = _apply_jumps(order, is_jump, steps)[:num_places]
    propensities = config.epsilon / num_left + np.where(steps == 0, 1 - config.epsilon, 0.0)
    return PageOrder(rows, np.minimum(propensities, 1.0))


def _apply_jumps(order: IntArray, is_jump: BoolArray, steps: IntArray) -> IntArray:
    """At each place that jumps, the candidate `steps` further down moves up to it; the others keep their
    order."""
    jump_places = np.flatnonzero(is_jump)
    # As a list: moving parts of an array takes ten times as long.
    rows = order.tolist()
    for place, num_steps in zip(jump_places.tolist(), steps[jump_places].tolist(), strict=True):
        rows.insert(place, rows.pop(place + num_steps))
    return np.array(rows, np.int64)


def _standardize(scores: FloatArray) -> DoubleArray:
    deviations = scores.astype(np.float64) - scores.max()
    spread = deviations.std()
    return deviations / spread if spread > 0 else np.zeros_like(deviations)


def _hash_to_uniforms(salt: str, request_id: str, count: int) -> DoubleArray:
    """`count` numbers strictly between 0 and 1."""
    digest = hashlib.shake_256(f"{salt}\0{request_id}".encode()).digest(8 * count)
    integers = np.frombuffer(digest, dtype="<u8") >> np.uint64(64 - _NUM_BITS)
    return (integers.astype(np.float64) + 0.5) * 2.0**-_NUM_BITS
