"""Fits the score's weights to users that training has not seen, and measures the model on later behaviors."""

from dataclasses import replace
from typing import NamedTuple

import polars as pl
import torch

from contracts.dataset import Dataset, select_events_before
from models.behavior.config import BehaviorConfig
from models.behavior.decoding.slot_decoder import SlotDecoder
from models.behavior.decoding.top_items import (
    LogSnapshot,
    estimate_trend_prior,
    make_popularity_scorer,
    rank_whole_catalogue,
)
from models.behavior.sequences.sequence_tensors import make_sequence_batch
from models.behavior.sequences.user_sequences import collect_user_histories, find_distinct_behaviors
from models.behavior.training.recall_metrics import measure_recall
from models.behavior.training.score_weights import ScoreWeights, fit_score_weights

RECALL_AT = (10, 20, 50)
_NONHEAD_AT = 20
_HEAD_ITEMS = 20
_HIDDEN_SHARE = 0.3
"""Of a held-out user's behaviors, the latest."""
_MAX_TUNING_SCORES = 5_000_000
"""Users times items that the weights are fitted on: bounds memory and time."""
_MIN_TUNING_USERS = 50
"""Fewer would fit noise, however large the catalogue."""


class TunedWeights(NamedTuple):
    """Weights of the score's terms."""

    shipped: ScoreWeights
    alone: ScoreWeights
    """Without co-occurrence and complements."""


def tune_score_weights(
    decoder: SlotDecoder, snapshot: LogSnapshot, held_out: pl.DataFrame, config: BehaviorConfig
) -> TunedWeights:
    """Finds the weights that make the latest 30 % of the held-out users' behaviors likeliest.

    Without such users the terms of the denoiser count 1 each. Co-occurrence and complements count as
    configured in any case.

    Args:
        decoder: what infers; its co-occurrences have not seen the held-out users.
        snapshot: of the training's end.
        held_out: the behaviors of the users that training has not seen.
        config: the settings.
    """
    from_end = pl.int_range(pl.len(), 0, -1).over("user_id") - 1
    is_hidden = from_end < (pl.len().over("user_id") * _HIDDEN_SHARE).ceil()
    marked = held_out.with_columns(is_hidden=is_hidden & (pl.len().over("user_id") > 1))
    hidden_behaviors = marked.filter("is_hidden")
    users = hidden_behaviors["user_id"].unique().sort()
    users = users.head(max(_MAX_TUNING_SCORES // len(snapshot.catalogue), _MIN_TUNING_USERS))
    given = ScoreWeights(cooccurrence=config.cooccurrence.weight, complement=config.complements.weight)
    if users.is_empty():
        return TunedWeights(given, ScoreWeights())
    visible, hidden = (
        make_sequence_batch(collect_user_histories(behaviors, users, snapshot.as_of, config.max_visible))
        for behaviors in (marked.filter(~pl.col("is_hidden")), hidden_behaviors)
    )
    # The hidden behaviors must not raise the popularity of what is to be guessed.
    known_behaviors = snapshot.behaviors.join(hidden_behaviors, on=["user_id", "item"], how="anti")
    prior_I = estimate_trend_prior(snapshot._replace(behaviors=known_behaviors), config.decoding.trend_days)
    terms = replace(decoder, items=replace(decoder.items, log_prior_I=prior_I)).compute_terms(visible)
    is_excluded_BI = torch.zeros(terms.context_BI.shape, dtype=torch.bool)
    rows, columns = visible.is_valid_BT.nonzero(as_tuple=True)
    is_excluded_BI[rows, visible.items_BT[rows, columns]] = True
    shipped, alone = (
        fit_score_weights(tuple(terms), is_excluded_BI, hidden, given=weights)
        for weights in (given, ScoreWeights())
    )
    return TunedWeights(shipped, alone)


def measure_future_recall(
    decoder: SlotDecoder, alone: ScoreWeights, snapshot: LogSnapshot, log: Dataset, config: BehaviorConfig
) -> dict[str, float]:
    """Measures recall of each user's new items between the training's end and `train_end`.

    Args:
        decoder: what infers, with the prior of `snapshot`.
        alone: the weights of the denoiser alone.
        snapshot: of the training's end.
        log: the dataset.
        config: the settings.

    Returns:
        For `model` (its own probabilities), `inferred` (the lists as they ship) and `popularity`:
        `future_<who>_recall_at_<k>`, and `future_<who>_nonhead_recall_at_20` over items outside the most
        popular 20. Empty where nothing lies in between.
    """
    events = select_events_before(log.behaviors, log.split.train_end)
    later_behaviors = find_distinct_behaviors(events, snapshot.catalogue)
    new_pairs = later_behaviors.join(snapshot.behaviors, on=["user_id", "item"], how="anti")
    earlier_users = snapshot.behaviors.select("user_id").unique()
    hidden = new_pairs.select("user_id", "item").join(earlier_users, on="user_id", how="semi")
    if hidden.is_empty():
        return {}
    users = hidden["user_id"].unique().sort()
    scorers = {
        "model": replace(decoder, popularity_weight=1.0, weights=alone).compute_confidences,
        "inferred": decoder.compute_confidences,
        "popularity": make_popularity_scorer(decoder.items.log_prior_I),
    }
    num_head_items = min(_HEAD_ITEMS, len(snapshot.catalogue))
    head_items = decoder.items.log_prior_I.topk(num_head_items).indices.tolist()
    nonhead = hidden.filter(~pl.col("item").is_in(head_items))
    metrics = {"future_users": float(len(users))}
    for who, scorer in scorers.items():
        top_items = rank_whole_catalogue(
            snapshot, users, scorer, max_history=config.max_visible, num_items=max(RECALL_AT)
        )
        for at in RECALL_AT:
            metrics[f"future_{who}_recall_at_{at}"] = measure_recall(top_items, users, hidden, at=at)
        if len(nonhead):
            nonhead_recall = measure_recall(top_items, users, nonhead, at=_NONHEAD_AT)
            metrics[f"future_{who}_nonhead_recall_at_{_NONHEAD_AT}"] = nonhead_recall
    return metrics
