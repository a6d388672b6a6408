"""How good the inferred behaviours are: recall of behaviours that the model has not seen, and validity."""

import numpy as np
import polars as pl

from models.behavior.recommend import TopItems


def recall(found: TopItems, users: pl.Series, hidden: pl.DataFrame, *, at: int) -> float:
    """Mean over users of the share of their hidden items among their first `at` inferred ones.

    Args:
        found: the lists of `users`, in that order.
        users: ids.
        hidden: distinct pairs (user_id, item) of hidden behaviours; users without any do not count.
        at: length of the list that counts.
    """
    rows = pl.DataFrame({"user_id": users}).with_row_index("row")
    targets = hidden.join(rows, on="user_id", how="inner")
    row, item = targets["row"].to_numpy(), targets["item"].to_numpy()
    hits = (found.items[row, :at] == item[:, None]).any(axis=1)
    counts = np.bincount(row, minlength=len(users))
    per_user = np.bincount(row, weights=hits, minlength=len(users))[counts > 0] / counts[counts > 0]
    return float(per_user.mean())


def validity(inferred: pl.DataFrame, logged: pl.DataFrame, item_ids: pl.Series) -> float:
    """Share of inferred items that are in the catalogue and that their user had not logged before (must be 1).

    Args:
        inferred: INFERRED_BEHAVIORS rows.
        logged: behaviours (EVENTS rows) of the whole log.
        item_ids: ids of the catalogue.
    """
    pairs = inferred.select("user_id", "event_timestamp", pl.col("inferred_item_ids").alias("item_id")).explode(
        "item_id", empty_as_null=False
    )
    known = pairs.filter(pl.col("item_id").is_in(item_ids.implode()))
    first = logged.group_by("user_id", "item_id").agg(pl.col("timestamp").min())
    dated = known.join(first, on=["user_id", "item_id"], how="left")
    valid = dated.filter(pl.col("timestamp").is_null() | (pl.col("timestamp") >= pl.col("event_timestamp")))
    return len(valid) / len(pairs) if len(pairs) else 1.0
