"""The reference window of drift reports: the test lists of an evaluation, as if they had been shown."""

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from contracts.array_types import FloatArray
from contracts.tables import EXPOSURES
from models.ranker.lists.build_lists import TEST

REFERENCE_FILE: Final = "reference.parquet"
MAX_LISTS: Final = 5_000
"""Drift reports sample their windows anyway; the file stays small."""


def make_reference_exposures(
    training_set: Path, protocol: str, scores: FloatArray, *, model_version: str
) -> pl.DataFrame:
    """The scored test lists as contract EXPOSURES (at most `MAX_LISTS`, evenly spread over the test part).

    Args:
        training_set: Parquet file of the training set.
        protocol: which lists.
        scores: [M] score of every candidate of these lists, in the file's order.
        model_version: the ranker that scored.
    """
    is_tested = (pl.col("split") == TEST) & (pl.col("protocol") == protocol)
    list_columns = ("list_id", "user_id", "timestamp", "item_ids")
    lists = pl.scan_parquet(training_set).filter(is_tested).select(list_columns).collect()
    candidates = lists.explode("item_ids").with_columns(score=pl.Series(scores.astype(np.float64)))
    # Evenly spread, so that the reference covers the whole test part.
    list_step = max(1, -(-len(lists) // MAX_LISTS))
    sampled_ids = lists.gather_every(list_step)["list_id"]
    return EXPOSURES.check_rows(
        candidates.filter(pl.col("list_id").is_in(sampled_ids.implode())).select(
            "user_id",
            "timestamp",
            "score",
            request_id="list_id",
            item_id="item_ids",
            arm=pl.lit("reference"),
            model_version=pl.lit(model_version),
            routed_version=pl.lit(model_version),
            position=pl.col("score").rank("ordinal", descending=True).over("list_id").cast(pl.Int32) - 1,
            degraded=pl.lit([], dtype=pl.List(pl.String)),
        )
    )
