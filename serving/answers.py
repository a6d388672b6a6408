"""From scores to an answer and to the lines of the event log; and the order without a model."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_repo.items import ItemFeatures
from feature_repo.stream import Behavior
from serving.messages import PostedEvent, RankedItem, RankRequest, RankResponse
from serving.triton_client import Outputs


def fallback_scores(candidates: ItemFeatures, history: ItemFeatures) -> npt.NDArray[np.float32]:
    """Scores without a model, [C]: likeness to the user's history where vectors are known, else the given order."""
    given = -np.arange(len(candidates.item_ids), dtype=np.float32)
    if not (history.has_vector.any() and candidates.has_vector.any()):
        return given
    taste = history.vectors[history.has_vector].mean(axis=0)
    likeness = candidates.vectors @ taste
    # Candidates without a vector come last; the given order decides among equals.
    return np.where(candidates.has_vector, likeness, -1e3).astype(np.float32) + given * 1e-6


def ranked_items(
    candidates: ItemFeatures, outputs: Outputs, *, limit: int | None, needs_vector: bool
) -> list[RankedItem]:
    """The best candidates in the order of their scores; of equal ones the one given first."""
    scores, click, ordered = outputs["score"], outputs.get("click"), outputs.get("order")
    return [
        RankedItem(
            item_id=candidates.item_ids[row],
            score=float(scores[row]),
            click=None if click is None else float(click[row]),
            order=None if ordered is None else float(ordered[row]),
            degraded=_item_flags(candidates, row, needs_vector=needs_vector),
        )
        for row in np.argsort(-scores, kind="stable")[:limit].tolist()
    ]


def _item_flags(items: ItemFeatures, row: int, *, needs_vector: bool) -> list[str]:
    if not items.known[row]:
        return ["unknown_item"]
    return ["no_vector"] if needs_vector and not items.has_vector[row] else []


def exposure_record(request: RankRequest, answer: RankResponse) -> dict[str, Any]:
    """The log's line on what was shown (`event_tables.read_exposures` reads it)."""
    return {
        "request_id": answer.request_id,
        "user_id": request.user_id,
        "timestamp": _iso(request.context.timestamp or datetime.now(UTC)),
        "arm": answer.arm,
        "model_version": answer.model_version,
        "item_ids": [item.item_id for item in answer.items],
        "scores": [item.score for item in answer.items],
        "degraded": [[*answer.degraded, *item.degraded] for item in answer.items],
    }


def event_record(event: PostedEvent, now: datetime) -> dict[str, Any]:
    """The log's line on what a user did."""
    return event.model_dump(exclude={"timestamp"}) | {"timestamp": _iso(event.timestamp or now)}


def behaviors_of(events: Sequence[PostedEvent], now: datetime) -> list[Behavior]:
    """What users did, and not only saw; nothing lies in the future, whatever the sender's clock says."""
    return [
        Behavior(event.user_id, event.item_id, event.event_type, min(event.timestamp or now, now))
        for event in events
        if event.event_type != "impression"
    ]


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
