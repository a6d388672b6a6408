"""Measuring a model on behaviours that it has not seen."""

from dataclasses import replace

import polars as pl

from contracts.dataset import Dataset, before
from models.behavior.config import BehaviorConfig
from models.behavior.decode import Decoder
from models.behavior.histories import distinct_behaviors
from models.behavior.metrics import recall
from models.behavior.recommend import Moment, Scorer, TopItems, popularity, top_items

RECALL_AT = (10, 20, 50)
_SIMILARITY_WEIGHTS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
_TUNED_AT = 20
_HIDDEN_SHARE = 0.3
_HEAD = 20


def choose_similarity_weight(decoder: Decoder, moment: Moment, held_out: pl.DataFrame, config: BehaviorConfig) -> float:
    """The weight with the best recall of the latest 30 % of the held-out users' behaviours; 0 where there are none.

    Args:
        decoder: what infers.
        moment: the training's end, with the behaviours of all users.
        held_out: the behaviours of the users that training has not seen.
        config: the settings.
    """
    from_end = pl.int_range(pl.len(), 0, -1).over("user_id") - 1
    is_hidden = from_end < (pl.len().over("user_id") * _HIDDEN_SHARE).ceil()
    hidden = held_out.filter(is_hidden & (pl.len().over("user_id") > 1)).select("user_id", "item")
    if hidden.is_empty():
        return 0.0
    users = hidden["user_id"].unique().sort()
    visible = moment._replace(behaviors=moment.behaviors.join(hidden, on=["user_id", "item"], how="anti"))

    def quality(weight: float) -> float:
        found = _rank(visible, users, replace(decoder, similarity_weight=weight).confidences, config, _TUNED_AT)
        return recall(found, users, hidden, at=_TUNED_AT)

    return max(_SIMILARITY_WEIGHTS, key=quality)


def future_metrics(decoder: Decoder, moment: Moment, log: Dataset, config: BehaviorConfig) -> dict[str, float]:
    """Recall of each user's new items between the training's end and `train_end`.

    Args:
        decoder: what infers, with the prior of `moment`.
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
        "model": replace(decoder, popularity_weight=1.0, similarity_weight=0.0).confidences,
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
            metrics[f"future_{who}_nonhead_recall_at_{_TUNED_AT}"] = recall(found, users, nonhead, at=_TUNED_AT)
    return metrics


def _rank(moment: Moment, users: pl.Series, scorer: Scorer, config: BehaviorConfig, num_items: int) -> TopItems:
    return top_items(moment, users, scorer, max_history=config.max_visible, num_items=num_items)
