"""Days of a loop: a ranker orders the pages of the living shop, and the gateway's log tells of it.

Legend: R requests of a day, C candidates of each, K places of a page.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.loop.loop_models import ServedModel
from benchmarks.loop.page_truth import PAGE_SIZE, judge_pages, rank_top
from benchmarks.loop.prepared_shop import TRUTH_PROTOCOL, PreparedShop, list_requests
from benchmarks.loop.scored_rankers import open_lists
from contracts.array_types import FloatArray, IntArray
from contracts.artifacts import read_table, write_table
from contracts.dataset import read_dataset
from contracts.events.order_returns import EVENT_ID, RETURN
from contracts.tables import CONTEXT_COLUMNS, INFERRED_BEHAVIORS, RANKING_LISTS, TRAINING_SET
from feature_repo.config import FeatureStoreConfig
from feature_repo.offline.behavior_histories import iter_histories
from feature_repo.offline.context_vectors import ContextVectors
from models.knowledge.embedding.embed_queries import embed_queries
from models.ranker.lists.encode_lists import TRAINING_SET_FILE
from serving.config import ExplorationConfig
from serving.event_log.log_lines import EVENT_LINE, EXPOSURE_LINE
from serving.gateway.exploration import draw_page
from simulation.config import LivingShopConfig
from simulation.living_shop import LivingDay, LivingShop

_MODEL_VERSION = "loop"


class LoopFolder:
    """What one loop leaves: the state of its shop, its days by the truth, and the gateway's log."""

    def __init__(self, path: Path) -> None:
        """Takes the folder; it need not be there yet."""
        self.path = path
        self.event_log = path / "events"
        self.served_log = path / "served_log"
        self.event_log.mkdir(parents=True, exist_ok=True)

    def name_round(self, number: int) -> Path:
        """Folder of the artifacts of a round."""
        return self.path / f"round-{number}"

    def has_day(self, day: int) -> bool:
        """Was the day served and closed?"""
        return self._name_state(day).exists()

    def read_day(self, day: int) -> dict[str, Any]:
        """The day's pages by the truth."""
        with np.load(self._name_pages(day), allow_pickle=False) as stored:
            return dict(stored)

    def open_shop(self, shop: Path, config: LivingShopConfig, day: int) -> LivingShop:
        """The shop on the morning of a day."""
        evening = self._name_state(day - 1)
        if evening.exists():
            return LivingShop.resume_shop(shop, config, evening)
        return LivingShop.open_shop(shop, config)

    def close_day(self, living: LivingShop, day: int, pages: dict[str, Any]) -> None:
        """Keeps a day; the shop's state comes last, since it says that the day is over."""
        np.savez_compressed(self._name_pages(day), allow_pickle=False, **pages)
        living.save_state(self._name_state(day))

    def write_lines(self, kind: str, day: int, lines: pl.DataFrame) -> None:
        """Writes the day's file of the gateway's log."""
        lines.write_ndjson(self.event_log / f"{kind}-{day:05d}.jsonl")

    def read_behaviors(self, day: int) -> pl.DataFrame:
        """What visitors did from the loop's begin to the morning of a day, in the columns of EVENTS."""
        # A day that was killed may have left its lines; it is served anew as if there were none.
        last_name = f"events-{day:05d}.jsonl"
        event_files = sorted(path for path in self.event_log.glob("events-*.jsonl") if path.name < last_name)
        frames = [pl.read_ndjson(path, schema=EVENT_LINE) for path in event_files if path.stat().st_size]
        lines = pl.concat(frames) if frames else pl.DataFrame(schema=EVENT_LINE)
        moments = pl.col("timestamp").str.to_datetime("%+", time_unit="us", time_zone="UTC")
        return lines.drop(EVENT_ID).filter(pl.col("event_type") != RETURN).with_columns(moments)

    def _name_state(self, day: int) -> Path:
        return self.path / f"state-{day:05d}.npz"

    def _name_pages(self, day: int) -> Path:
        return self.path / f"pages-{day:05d}.npz"


def serve_day(
    prepared: PreparedShop,
    folder: LoopFolder,
    model: ServedModel,
    exploration: ExplorationConfig,
    config: LivingShopConfig,
    day: int,
) -> None:
    """Serves one day and lets its visitors react; a day that was served is left as it is."""
    if folder.has_day(day):
        return
    living = folder.open_shop(prepared.shop, config, day)
    opened = living.open_day()
    num_items = len(living.read_items())
    scores = score_requests(prepared, folder, model, opened)
    slots, propensities = draw_pages(opened, scores, exploration)
    judged, greedy = judge_pages(opened.batch, slots), judge_pages(opened.batch, rank_top(scores))
    result = living.close_day(opened, slots, propensities)
    folder.write_lines("exposures", day, list_exposures(opened, slots, scores, propensities))
    folder.write_lines("events", day, list_event_lines(result.events, opened.arrivals))
    pages = {
        "users": opened.batch.visits.users,
        "clicks": judged.clicks,
        "greedy_clicks": greedy.clicks,
        "shown": judged.shown,
        "num_items": np.array(num_items),
    }
    folder.close_day(living, day, pages)


def score_requests(
    prepared: PreparedShop, folder: LoopFolder, model: ServedModel, day: LivingDay
) -> FloatArray:
    """Scores [R, C] of a day's requests, from features as of the night before."""
    requests_folder = folder.path / "requests"
    requests_folder.mkdir(exist_ok=True)
    behaviors = pl.concat(
        [read_dataset(prepared.dataset).behaviors, folder.read_behaviors(day.day)], how="diagonal_relaxed"
    )
    lists_file = requests_folder / "ranking_lists.parquet"
    lists = list_requests(day.requests)
    write_table(lists_file, RANKING_LISTS, lists)
    context_vectors = ContextVectors.read_for_lists(
        lists_file, model.features, partial(embed_queries, model.space)
    )
    rows = context_vectors.add_to(join_newest_features(lists, behaviors, model))
    write_table(requests_folder / TRAINING_SET_FILE, TRAINING_SET, rows.select(TRAINING_SET.schema.names()))
    ranker = model.open_ranker()
    with open_lists(requests_folder, model.dataset, TRUTH_PROTOCOL, ranker) as encoded:
        return ranker.score_lists(encoded).score.reshape(len(day.requests), -1)


def join_newest_features(lists: pl.DataFrame, behaviors: pl.DataFrame, model: ServedModel) -> pl.DataFrame:
    """Adds the newest features of its user to each list: what an online store holds in the night."""
    todays_behaviors = behaviors.filter(pl.col("user_id").is_in(lists["user_id"].unique().implode()))
    inferred = read_table(model.inferred / "inferred_behaviors.parquet", INFERRED_BEHAVIORS)
    return lists.join(
        find_newest_histories(todays_behaviors), on="user_id", how="left", maintain_order="left"
    ).join(_keep_newest(inferred, "inferred_as_of"), on="user_id", how="left", maintain_order="left")


def find_newest_histories(behaviors: pl.DataFrame) -> pl.DataFrame:
    """The newest history of each user, with the columns of TRAINING_SET."""
    length = FeatureStoreConfig().history_length
    newest = behaviors.sort("timestamp").group_by("user_id", maintain_order=True).tail(length)
    frames = list(iter_histories(newest, history_length=length, batch_rows=50_000))
    return _keep_newest(pl.concat(frames), "history_as_of").drop("history_micros")


def _keep_newest(features: pl.DataFrame, as_of: str) -> pl.DataFrame:
    newest = features.sort("event_timestamp").unique("user_id", keep="last")
    return newest.rename({"event_timestamp": as_of}).with_columns(pl.col(as_of).dt.truncate("1s"))


def draw_pages(
    day: LivingDay, scores: FloatArray, exploration: ExplorationConfig
) -> tuple[IntArray, FloatArray]:
    """Slots and propensities [R, K] as the gateway would draw them."""
    pages = [
        draw_page(row, exploration, request_id=request_id, limit=PAGE_SIZE)
        for row, request_id in zip(scores, day.batch.request_ids.tolist(), strict=True)
    ]
    slots = np.stack([page.rows for page in pages])
    return slots, np.stack([page.propensities for page in pages]).astype(np.float32)


def list_exposures(
    day: LivingDay, slots: IntArray, scores: FloatArray, propensities: FloatArray
) -> pl.DataFrame:
    """The gateway's lines on a day's answers."""
    requests = day.requests
    shown_scores = np.take_along_axis(scores, slots, axis=1).astype(np.float64)
    columns: dict[str, Any] = {
        "request_id": [request.request_id for request in requests],
        "user_id": [request.user_id for request in requests],
        "timestamp": [request.timestamp.isoformat(timespec="microseconds") for request in requests],
        "arm": ["loop"] * len(requests),
        "assignment": ["drawn"] * len(requests),
        "experiment_id": [None] * len(requests),
        "teams": [None] * len(requests),
        "model_version": [_MODEL_VERSION] * len(requests),
        "routed_version": [_MODEL_VERSION] * len(requests),
        "item_ids": np.take_along_axis(day.batch.candidate_ids, slots, axis=1).tolist(),
        "scores": shown_scores.tolist(),
        "propensities": propensities.astype(np.float64).tolist(),
        "degraded": [[[] for _ in row] for row in slots],
        "latency_ms": [None] * len(requests),
        "failure": [None] * len(requests),
        **{name: [request.context.get(name) for request in requests] for name in CONTEXT_COLUMNS},
    }
    columns["layers"] = [[] for _ in requests]
    return pl.DataFrame(columns, schema_overrides=EXPOSURE_LINE).select(EXPOSURE_LINE.names())


def list_event_lines(events: pl.DataFrame, arrivals: pl.DataFrame) -> pl.DataFrame:
    """The gateway's lines on what visitors did: what they saw, the exposures say already."""
    posted = pl.concat([events.filter(pl.col("event_type") != "impression"), arrivals])
    moments = pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00")
    no_ids = pl.lit(None, pl.String).alias(EVENT_ID)
    return posted.with_columns(moments, no_ids).select(EVENT_LINE.names())
