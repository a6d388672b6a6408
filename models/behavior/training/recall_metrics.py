"""How good the inferred behaviors are: recall of behaviors that the model has not seen, and validity."""

import numpy as np
import polars as pl

from models.behavior.decoding.top_items import TopItems


def measure_recall(top_items: TopItems, users: pl.Series, hidden: pl.DataFrame, *, at: int) -> float:
    """Averages over users the share of their hidden items among their first `at` inferred ones.

    Args:
        top_items: the lists of `users`, in that order.
        users: ids.
        hidden: distinct pairs (user_id, item) of hidden behaviors; users without any do not count.
        at: length of the list that counts.
    """
    user_rows = pl.DataFrame({"user_id": users}).with_row_index("row")
    targets = hidden.join(user_rows, on="user_id", how="inner")
    target_rows, target_items = targets["row"].to_numpy(), targets["item"].to_numpy()
    is_hit = (top_items.items[target_rows, :at] == target_items[:, None]).any(axis=1)
    num_targets = np.bincount(target_rows, minlength=len(users))
    num_hits = np.bincount(target_rows, weights=is_hit, minlength=len(users))
    return float((num_hits[num_targets > 0] / num_targets[num_targets > 0]).mean())


def measure_validity(inferred: pl.DataFrame, logged: pl.DataFrame, item_ids: pl.Series) -> float:
    """Measures the share of inferred items that are in the catalogue and new to their user (must be 1).

    Args:
        inferred: INFERRED_BEHAVIORS rows.
        logged: behaviors (EVENTS rows) of the whole log.
        item_ids: ids of the catalogue.
    """
    pairs = inferred.select(
        "user_id", "event_timestamp", pl.col("inferred_item_ids").alias("item_id")
    ).explode("item_id", empty_as_null=False)
    catalogue_pairs = pairs.filter(pl.col("item_id").is_in(item_ids.implode()))
    first_logged = logged.group_by("user_id", "item_id").agg(pl.col("timestamp").min())
    dated_pairs = catalogue_pairs.join(first_logged, on=["user_id", "item_id"], how="left")
    is_new = pl.col("timestamp").is_null() | (pl.col("timestamp") >= pl.col("event_timestamp"))
    return len(dated_pairs.filter(is_new)) / len(pairs) if len(pairs) else 1.0
