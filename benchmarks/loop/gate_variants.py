"""Rankers of all kinds, good and harmful, which the gate has to put in the order of the truth.

Some are trained; the others are derived from what a trained one says, or from what the log counts.

Legend: M candidates of all lists, I rows of the item table.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks.loop.lightgbm_peer import score_lightgbm_once
from benchmarks.loop.prepared_shop import PreparedShop, Step, make_steps
from benchmarks.loop.scored_rankers import RANKERS, RankerScores, describe_ranker, score_ranker_once
from contracts.array_types import DoubleArray, FloatArray, Int32Array
from contracts.artifacts import create_artifact, read_lineage, write_json, write_table
from contracts.dataset import read_dataset, read_split, select_events_before
from contracts.tables import EVENTS, ITEMS
from feature_repo.offline.point_in_time_join import join_features
from models.ranker.config import RankerFeatures
from models.ranker.evaluation.exported_ranker import CandidateScores
from models.ranker.inputs.item_encoder import FIRST
from models.ranker.lists.build_lists import build_lists
from pipelines.config import RunConfig

TRAINED_VARIANTS: dict[str, tuple[str, dict[str, bool], dict[str, Any]]] = {
    "no_composition": ("full", {"list_composition": False}, {}),
    "no_counts": ("full", {"counts": False}, {}),
    "no_composition_no_counts": ("full", {"list_composition": False, "counts": False}, {}),
    "no_item_id": ("full", {"item_id": False}, {}),
    "id_alone": ("ids", {"category": False, "brand": False, "price": False}, {}),
    "one_epoch": ("full", {}, {"max_epochs": 1}),
    "narrow": ("strong", {}, {"dim": 8}),
    "hasty": ("strong", {}, {"learning_rate": 2e-2}),
}
"""Variant -> the ranker that it starts from, changed switches, changed settings."""
_FEW_EPOCHS: dict[str, Any] = {"max_epochs": 2, "min_steps": 1}
"""Variants need not be good: each is as valid a question to the gate."""
SAMPLED = "sampled_lists"
"""The full ranker, trained on sampled lists instead of on pages: the mistake that a former gate let pass."""


class PageCandidates(NamedTuple):
    """Candidates that are to be scored, with what the catalogue and the log say of them, [M] each."""

    price: DoubleArray
    clicks: DoubleArray
    """Training clicks of the item."""
    impressions: DoubleArray
    age: DoubleArray
    """Days since the item could first be shown, at the log's end."""
    noise: FloatArray
    """Uniform numbers."""


Derive = Callable[[PageCandidates, CandidateScores], FloatArray | DoubleArray]
DERIVED_VARIANTS: dict[str, Derive] = {
    "random": lambda items, _: items.noise,
    "popular": lambda items, _: items.impressions,
    "clicked": lambda items, _: items.clicks,
    "click_rate": lambda items, _: (items.clicks + 1) / (items.impressions + 20),
    "newest": lambda items, _: -items.age,
    "cheapest": lambda items, _: -items.price,
    "dearest": lambda items, _: items.price,
    "full_by_orders": lambda _, full: full.order,
    "full_by_value": lambda items, full: full.order * items.price,
    "full_pricey": lambda items, full: full.click * items.price**0.2,
    "full_inverted_price": lambda items, full: full.click / items.price,
    "full_with_noise": lambda items, full: np.log(full.click) + 2 * items.noise,
    "full_unpopular": lambda items, full: full.click / (items.impressions + 20) ** 0.5,
    "worst": lambda _, full: -full.click,
}
"""Variant -> its scores, from the candidates and what the full ranker says of them."""


def score_variants(prepared: PreparedShop) -> dict[str, RankerScores]:
    """Scores of all variants of a shop."""
    # Where its own pages speak against them, the full ranker is the one without inferred behaviors.
    names = [name for name in RANKERS if name != "without_inferred"]
    scores = {name: _score_trained(prepared, name, RANKERS[name], {}) for name in names}
    for name, (start, switches, settings) in TRAINED_VARIANTS.items():
        features = RANKERS[start].model_copy(update=switches)
        scores[name] = _score_trained(prepared, name, features, {**_FEW_EPOCHS, **settings})
    sampled_set = prepare_sampled_lists(prepared)
    scores[SAMPLED] = score_ranker_once(
        prepared, SAMPLED, describe_ranker(RANKERS["full"], **_FEW_EPOCHS), training_set=sampled_set
    )
    return {**scores, "lightgbm": score_lightgbm_once(prepared)}


def _score_trained(
    prepared: PreparedShop, name: str, features: RankerFeatures, settings: Mapping[str, Any]
) -> RankerScores:
    return score_ranker_once(prepared, name, describe_ranker(features, **settings))


def prepare_sampled_lists(prepared: PreparedShop) -> Path:
    """A training set of the same log, as if it did not say what was shown."""
    run, paths = RunConfig(), dict[str, Path]()
    steps = [
        Step(
            "unshown_dataset",
            ("contracts", "benchmarks/loop/gate_variants.py"),
            read_lineage(prepared.dataset).digest,
            lambda out: _hide_impressions(prepared.dataset, out),
        ),
        Step(
            "sampled_lists",
            ("models/ranker/lists",),
            run.lists.model_dump(mode="json"),
            lambda out: build_lists(paths["unshown_dataset"], run.lists, out=out),
        ),
        Step(
            "sampled_training_set",
            ("feature_repo/offline",),
            read_lineage(prepared.features).digest,
            lambda out: join_features(paths["sampled_lists"], prepared.features, run.features, out=out),
        ),
    ]
    make_steps(steps, prepared.folder, paths)
    return paths["sampled_training_set"]


def _hide_impressions(dataset: Path, out: Path) -> None:
    data = read_dataset(dataset)
    with create_artifact(out, kind="dataset", inputs={"dataset": dataset}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, data.items)
        write_table(artifact.path / "events.parquet", EVENTS, data.behaviors)
        write_json(artifact.path / "split.json", read_split(dataset).model_dump(mode="json"))


def describe_candidates(prepared: PreparedShop, candidates: Int32Array, *, seed: int) -> PageCandidates:
    """What the catalogue and the training log say of candidates, rows of the item table."""
    data = read_dataset(prepared.dataset)
    events = select_events_before(data.events, data.split.train_end)
    counts = events.group_by("item_id").agg(
        clicks=(pl.col("event_type") == "click").sum(),
        impressions=(pl.col("event_type") == "impression").sum(),
    )
    age = (data.split.cutoff - pl.col("available_at")).dt.total_days()
    items = data.items.join(counts, on="item_id", how="left", maintain_order="left").select(
        pl.col("price", "clicks", "impressions").fill_null(0).cast(pl.Float64),
        age=age.fill_null(1_000).cast(pl.Float64),
    )
    rows = np.asarray(candidates) - FIRST
    columns = {name: items[name].to_numpy()[rows] for name in items.columns}
    columns["price"] = np.maximum(columns["price"], 0.01)
    noise = np.random.default_rng(seed).random(len(rows), dtype=np.float32)
    return PageCandidates(noise=noise, **columns)
