"""The lines of the event log: an exposure for each request, an event for each thing that a user did.

`log_tables.py` reads them back.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from contracts.tables import CONTEXT_COLUMNS
from serving.experiments.arm_assignment import Assignment
from serving.gateway.messages import PostedEvent, RankRequest, RankResponse


class ExperimentNote(NamedTuple):
    """What an exposure says of the experiment that runs."""

    experiment_id: str | None = None
    teams: list[str] | None = None
    """Whose pick each item is, where two rankers share the page."""


def build_exposure_record(
    request: RankRequest,
    answer: RankResponse,
    routed_version: str,
    note: ExperimentNote | None = None,
    *,
    latency_ms: float | None = None,
) -> dict[str, Any]:
    """The line on what was shown.

    Args:
        request: what was asked.
        answer: what was answered.
        routed_version: the ranker that was to answer; another one's name stands in an answer that it did not
            score.
        note: the experiment that the page is a part of, if one was started.
        latency_ms: how long the answer took.
    """
    note = note or ExperimentNote()
    answer_flags = list(answer.degraded)
    return {
        "request_id": answer.request_id,
        "user_id": request.user_id,
        "timestamp": _format_moment(request.context.timestamp or datetime.now(UTC)),
        "arm": answer.arm,
        "layers": [f"{experiment}={arm}" for experiment, arm in answer.layers.items()],
        "assignment": answer.assignment,
        **{name: value for name, value in note._asdict().items() if value is not None},
        "model_version": answer.model_version,
        "routed_version": routed_version,
        "item_ids": [ranked_item["item_id"] for ranked_item in answer.items],
        "scores": [ranked_item["score"] for ranked_item in answer.items],
        "propensities": [ranked_item["propensity"] for ranked_item in answer.items],
        "degraded": [
            [*answer_flags, *ranked_item["degraded"]] if ranked_item["degraded"] else answer_flags
            for ranked_item in answer.items
        ],
        **({} if latency_ms is None else {"latency_ms": round(latency_ms, 3)}),
        # Most requests say little: what is not given takes no room.
        **{name: text for name in CONTEXT_COLUMNS if (text := getattr(request.context, name)) is not None},
    }


def build_failure_record(
    request: RankRequest,
    request_id: str,
    assignment: Assignment,
    routed_version: str,
    *,
    cause: str,
    latency_ms: float,
) -> dict[str, Any]:
    """The line on a request that got no answer: an exposure of nothing."""
    return {
        "request_id": request_id,
        "user_id": request.user_id,
        "timestamp": _format_moment(request.context.timestamp or datetime.now(UTC)),
        "arm": assignment.arm,
        "assignment": assignment.source,
        "routed_version": routed_version,
        "item_ids": [],
        "degraded": [],
        "latency_ms": round(latency_ms, 3),
        "failure": cause,
    }


def build_event_record(event: PostedEvent, now: datetime) -> dict[str, Any]:
    """The line on what a user did, at `now` unless the event says when."""
    return {
        "user_id": event.user_id,
        "item_id": event.item_id,
        "event_type": event.meant_type,
        "timestamp": _format_moment(event.timestamp or now),
        # The type says what was taken back: no table holds a number below 0.
        "price": None if event.price is None else abs(event.price),
        "quantity": None if event.quantity is None else abs(event.quantity),
        "request_id": event.request_id,
        "position": event.position,
        **({} if event.event_id is None else {"event_id": event.event_id}),
    }


def _format_moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
