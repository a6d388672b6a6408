"""Measuring a model on behaviours that it has not seen."""

from dataclasses import replace
from typing import NamedTuple

import polars as pl
import torch

from contracts.dataset import Dataset, before
from models.behavior.config import BehaviorConfig
from models.behavior.decode import Decoder
from models.behavior.histories import distinct_behaviors, user_histories
from models.behavior.metrics import recall
from models.behavior.mixture import Weights, fit_weights
from models.behavior.recommend import Moment, Scorer, TopItems, popularity, top_items, trend_prior
from models.behavior.tensors import to_batch

RECALL_AT = (10, 20, 50)
_MAX_TUNING_SCORES = 5_000_000
"""Users times items that the weights are fitted on: bounds memory and time."""
_MIN_TUNING_USERS = 50
"""Fewer would fit noise, however large the catalogue."""
_NONHEAD_AT = 20
_HIDDEN_SHARE = 0.3
_HEAD = 20


class Tuned(NamedTuple):
    """Weights of the score's parts."""

    shipped: Weights
    alone: Weights
    """Without co-occurrence."""


def tune_weights(decoder: Decoder, moment: Moment, held_out: pl.DataFrame, config: BehaviorConfig) -> Tuned:
    """The weights that make the latest 30 % of the held-out users' behaviours likeliest.

    Without such users the parts of the denoiser count 1 each; co-occurrence counts as configured in any case.

    Args:
        decoder: what infers; its co-occurrences have not seen the held-out users.
        moment: the training's end.
        held_out: the behaviours of the users that training has not seen.
        config: the settings.
    """
    from_end = pl.int_range(pl.len(), 0, -1).over("user_id") - 1
    is_hidden = from_end < (pl.len().over("user_id") * _HIDDEN_SHARE).ceil()
    marked = held_out.with_columns(is_hidden=is_hidden & (pl.len().over("user_id") > 1))
    users = marked.filter("is_hidden")["user_id"].unique().sort()
    users = users.head(max(_MAX_TUNING_SCORES // len(moment.catalogue), _MIN_TUNING_USERS))
    if users.is_empty():
        return Tuned(Weights(cooccurrence=config.cooccurrence.weight), Weights())
    seen, hidden = (
        to_batch(user_histories(marked.filter(mask), users, moment.as_of, config.max_visible))
        for mask in (~pl.col("is_hidden"), pl.col("is_hidden"))
    )
    prior_n = trend_prior(_without(moment, marked.filter("is_hidden")), config.decoding.trend_days)
    parts = replace(decoder, items=replace(decoder.items, log_prior_n=prior_n)).parts(seen)
    excluded = torch.zeros(parts.context_bn.shape, dtype=torch.bool)
    row, column = seen.valid_bt.nonzero(as_tuple=True)
    excluded[row, seen.items_bt[row, column]] = True
    shipped, alone = (
        fit_weights(tuple(parts), excluded, hidden, cooccurrence=weight) for weight in (config.cooccurrence.weight, 0.0)
    )
    return Tuned(shipped, alone)


def _without(moment: Moment, hidden: pl.DataFrame) -> Moment:
    return moment._replace(behaviors=moment.behaviors.join(hidden, on=["user_id", "item"], how="anti"))


def future_metrics(
    decoder: Decoder, alone: Weights, moment: Moment, log: Dataset, config: BehaviorConfig
) -> dict[str, float]:
    """Recall of each user's new items between the training's end and `train_end`.

    Args:
        decoder: what infers, with the prior of `moment`.
        alone: the weights of the denoiser alone.
        moment: the training's end.
        log: the dataset.
        config: the settings.

    Returns:
        For `model` (its own probabilities), `inferred` (the lists as they ship) and `popularity`:
        `future_<who>_recall_at_<k>`, and `future_<who>_nonhead_recall_at_20` over items outside the most popular 20.
        Empty where nothing lies in between.
    """
    later = distinct_behaviors(before(log.behaviors, log.split.train_end), moment.catalogue)
    new = later.join(moment.behaviors, on=["user_id", "item"], how="anti").select("user_id", "item")
    hidden = new.join(moment.behaviors.select("user_id").unique(), on="user_id", how="semi")
    if hidden.is_empty():
        return {}
    users = hidden["user_id"].unique().sort()
    scorers = {
        "model": replace(decoder, popularity_weight=1.0, weights=alone).confidences,
        "inferred": decoder.confidences,
        "popularity": popularity(decoder.items.log_prior_n),
    }
    head = decoder.items.log_prior_n.topk(min(_HEAD, len(moment.catalogue))).indices.tolist()
    nonhead = hidden.filter(~pl.col("item").is_in(head))
    metrics = {"future_users": float(len(users))}
    for who, scorer in scorers.items():
        found = _rank(moment, users, scorer, config, max(RECALL_AT))
        metrics |= {f"future_{who}_recall_at_{at}": recall(found, users, hidden, at=at) for at in RECALL_AT}
        if len(nonhead):
            metrics[f"future_{who}_nonhead_recall_at_{_NONHEAD_AT}"] = recall(found, users, nonhead, at=_NONHEAD_AT)
    return metrics


def _rank(moment: Moment, users: pl.Series, scorer: Scorer, config: BehaviorConfig, num_items: int) -> TopItems:
    return top_items(moment, users, scorer, max_history=config.max_visible, num_items=num_items)
