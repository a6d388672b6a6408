"""From scores to an answer and to the lines of the event log; and the order without a model."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from feature_repo.items import ItemFeatures
from feature_repo.stream import Behavior
from serving.messages import PostedEvent, RankedItem, RankRequest, RankResponse
from serving.triton_client import Outputs

_NUMBERS: Final = ("score", "click", "order", "value")


def fallback_scores(candidates: ItemFeatures, history: ItemFeatures) -> npt.NDArray[np.float32]:
    """Scores without a model, [C]: likeness to the user's history where vectors are known, else the given order."""
    given = -np.arange(len(candidates.item_ids), dtype=np.float32)
    if not (history.has_vector.any() and candidates.has_vector.any()):
        return given
    taste = history.vectors[history.has_vector].mean(axis=0, dtype=np.float32)
    likeness = candidates.vectors.astype(np.float32) @ taste
    # Candidates without a vector come last; the given order decides among equals.
    return np.where(candidates.has_vector, likeness, -1e3).astype(np.float32) + given * 1e-6


def ranked_items(
    candidates: ItemFeatures, outputs: Outputs, *, limit: int | None, needs_vector: bool
) -> list[RankedItem]:
    """The best candidates in the order of their scores; of equal ones the one given first."""
    order = np.argsort(-outputs["score"], kind="stable")[:limit]
    rows = order.tolist()
    columns = (outputs[name][order].tolist() if name in outputs else [None] * len(rows) for name in _NUMBERS)
    flags = _item_flags(candidates, order, needs_vector=needs_vector)
    return [
        {
            "item_id": candidates.item_ids[row],
            "score": score,
            "click": click,
            "order": ordered,
            "value": value,
            "degraded": list(flags.get(row, ())),
        }
        for row, score, click, ordered, value in zip(rows, *columns, strict=True)
    ]


def _item_flags(items: ItemFeatures, rows: npt.NDArray[np.int64], *, needs_vector: bool) -> dict[int, tuple[str]]:
    """Row -> what is missing; rows of which nothing is do not stand there."""
    lacks_vector = rows[~items.has_vector[rows]].tolist() if needs_vector else []
    found: dict[int, tuple[str]] = dict.fromkeys(lacks_vector, ("no_vector",))
    return found | dict.fromkeys(rows[~items.known[rows]].tolist(), ("unknown_item",))


def exposure_record(request: RankRequest, answer: RankResponse, *, routed_version: str) -> dict[str, Any]:
    """The log's line on what was shown (`event_tables.read_exposures` reads it).

    Args:
        request: what was asked.
        answer: what was answered.
        routed_version: the ranker that was to answer; another one's name stands in an answer that it did not score.
    """
    whole = list(answer.degraded)
    return {
        "request_id": answer.request_id,
        "user_id": request.user_id,
        "timestamp": _iso(request.context.timestamp or datetime.now(UTC)),
        "arm": answer.arm,
        "layers": [f"{experiment}={arm}" for experiment, arm in answer.layers.items()],
        "assignment": answer.assignment,
        "model_version": answer.model_version,
        "routed_version": routed_version,
        "item_ids": [item["item_id"] for item in answer.items],
        "scores": [item["score"] for item in answer.items],
        "degraded": [[*whole, *item["degraded"]] if item["degraded"] else whole for item in answer.items],
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
