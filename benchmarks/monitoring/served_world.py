"""The embedded shop under one fixed ranker, week after week: what drift reports look at. Nothing drifts."""

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from contracts.tables import EVENTS, EXPOSURES, INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, ITEMS, OUTCOMES
from feature_repo.offline.behavior_histories import iter_histories
from monitoring.config import MonitoringConfig
from monitoring.drift.drift_columns import derive_columns
from monitoring.drift.served_features import build_served_features
from monitoring.drift.window_selection import split_served_windows
from monitoring.drift.window_tables import ReferenceNote, Windows
from simulation.config import TrafficConfig
from simulation.simulated_traffic import TrafficSimulator
from simulation.true_outcomes import compute_place_outcomes

_PAGE_SIZE = 10
_VECTOR_DIM = 32
_RANKER_NOISE = 0.7
"""Standard deviation of what the ranker gets wrong, in log-odds of a click."""


class FeatureTables(NamedTuple):
    """What the pages are joined with; a planted fault changes one of them."""

    items: pl.DataFrame
    item_embeddings: pl.DataFrame
    user_behaviors: pl.DataFrame
    inferred_behaviors: pl.DataFrame


class ServedWorld:
    """Pages of a written shop."""

    def __init__(self, shop: Path) -> None:
        self._shop = shop

    @cached_property
    def tables(self) -> FeatureTables:
        """The undisturbed features."""
        items = ITEMS.check_rows(pl.read_parquet(self._shop / "items.parquet"))
        events = pl.read_parquet(self._shop / "events.parquet", columns=list(EVENTS.schema))
        behaviors = events.filter(pl.col("event_type") != "impression")
        histories = pl.concat(list(iter_histories(behaviors, history_length=50, batch_rows=50_000)))
        newest = histories["event_timestamp"].max()
        users = histories.select(pl.col("user_id").unique(maintain_order=True))
        rng = np.random.default_rng(0)
        inferred = users.with_columns(
            inferred_item_ids=pl.Series(
                [items["item_id"][: int(n)].to_list() for n in rng.integers(5, 40, len(users))]
            ),
        ).with_columns(
            inferred_scores=pl.col("inferred_item_ids").list.eval(pl.lit(0.5)).cast(pl.List(pl.Float32)),
            behavior_model_version=pl.lit("m"),
            space=pl.lit("s"),
            event_timestamp=pl.lit(newest),
        )
        return FeatureTables(
            items, self._embed_titles(items), histories, INFERRED_BEHAVIORS.check_rows(inferred)
        )

    def show_pages(
        self, *, seed: int, num_requests: int, num_days: float
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """EXPOSURES and OUTCOMES of so many requests after the shop's log, all answered by one ranker."""
        config = TrafficConfig(seed=seed, num_requests=num_requests, num_days=num_days)
        simulator = TrafficSimulator(self._shop, config)
        batch, rng = simulator.batch, np.random.default_rng(seed)
        logits = batch.affinities + rng.normal(0, _RANKER_NOISE, batch.affinities.shape)
        slots = np.argsort(-logits, axis=1, kind="stable")[:, :_PAGE_SIZE]
        truth = compute_place_outcomes(batch, slots)
        click = rng.random(slots.shape) < truth.clicks
        requests = list(simulator.iter_requests())
        size = slots.shape[1]
        pages = pl.DataFrame(
            {
                "request_id": np.repeat(batch.request_ids, size),
                "item_id": np.take_along_axis(batch.candidate_ids, slots, axis=1).ravel(),
                "user_id": np.repeat([request.user_id for request in requests], size),
                "timestamp": pl.Series([r.timestamp for r in requests for _ in range(size)]),
                "score": (1 / (1 + np.exp(-np.take_along_axis(logits, slots, axis=1)))).ravel(),
                "position": np.tile(np.arange(size), len(requests)),
                "scene": np.repeat([request.context["scene"] for request in requests], size),
                "click": click.ravel(),
            }
        ).with_columns(
            arm=pl.lit("control"),
            model_version=pl.lit("m"),
            routed_version=pl.lit("m"),
            degraded=pl.lit([], dtype=pl.List(pl.String)),
            order=pl.lit(False),
            revenue=pl.lit(0.0),
        )
        return EXPOSURES.check_rows(pages), OUTCOMES.check_rows(pages)

    def _embed_titles(self, items: pl.DataFrame) -> pl.DataFrame:
        """Stands for the knowledge space: words of title and category, on their principal axes."""
        texts = items.select(pl.concat_str("title", "category", separator=" ", ignore_nulls=True)).to_series()
        counts = TfidfVectorizer(min_df=2).fit_transform(texts.to_list())
        vectors = TruncatedSVD(_VECTOR_DIM, random_state=0).fit_transform(counts).astype(np.float32)
        return replace_vectors(
            items.select("item_id", space=pl.lit("s"), event_timestamp=pl.lit(None)), vectors
        )


def replace_vectors(rows: pl.DataFrame, vectors: np.ndarray) -> pl.DataFrame:
    """ITEM_EMBEDDINGS of these rows with other vectors [N, D]."""
    epoch = pl.datetime(2025, 1, 1, time_zone="UTC")
    return ITEM_EMBEDDINGS.check_rows(
        rows.with_columns(
            embedding=pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32)),
            semantic_id=pl.lit([1], dtype=pl.List(pl.Int32)),
            event_timestamp=epoch,
        )
    )


def join_windows(
    pages: tuple[pl.DataFrame, pl.DataFrame],
    tables: tuple[FeatureTables, FeatureTables],
    config: MonitoringConfig,
    *,
    until: timedelta | None = None,
) -> Windows:
    """The two windows of a log as a drift report sees them, each with its own feature tables."""
    exposures, outcomes = pages
    if until is not None:
        exposures = exposures.filter(pl.col("timestamp") < pl.col("timestamp").min() + until)
    windows = split_served_windows(exposures, config)
    assert windows is not None
    features = [
        derive_columns(build_served_features(window, config, outcomes=outcomes, **of_window._asdict()))
        for window, of_window in zip(windows, tables, strict=True)
    ]
    return Windows(features[0], features[1], ReferenceNote(source="served"))
