"""The gateway's HTTP face: `POST /rank`, `POST /events`; BentoML adds `/livez`, `/readyz`, `/healthz` and `/metrics`.

The routes are a FastAPI application, since BentoML's own endpoints wrap a body that is one typed object.

REASEQ_SERVING_CONFIG=serving.json bentoml serve serving.gateway:Gateway
"""

import contextlib
import gc
import json
import os
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Final

import bentoml
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError

from contracts.errors import UserError
from feature_repo.online import FeatureReader
from feature_repo.stream import HistoryWriter
from serving.admission import FORCE_HEADER, Admission
from serving.assignment import parse_forced
from serving.config import MAX_DEADLINE_MS, GatewayConfig, ServingConfig
from serving.deployments import Deployments
from serving.drain import CloseConnections, Drain
from serving.event_log import EventLog, EventLogFullError
from serving.event_sinks import make_sink
from serving.forwarding import Forwarder
from serving.logs import RequestIds, log_as_json
from serving.messages import EventsRequest, EventsResponse, RankRequest, RankResponse
from serving.metrics import UNSENT, UNSTREAMED
from serving.ranking import RankingService
from serving.triton_client import TritonScorer


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens everything in the worker process, after the fork, and closes it when the worker ends."""
    log_as_json()
    config = ServingConfig.from_environment()
    reader = FeatureReader(config.feature_store, cached_items=config.gateway.cached_items)
    scorer = TritonScorer(config.triton)
    deployments = Deployments(config.state, config.rankers)
    describe_limits(app, config.gateway)
    with _event_log(config) as log, _histories(config) as histories:
        app.state.config = config.gateway
        app.state.ranking = RankingService(
            config.gateway, deployments=deployments, features=reader, scorer=scorer, log=log, histories=histories
        )
        await app.state.ranking.warm_up()
        # What is here stays: the collector need not look through it again and again while requests wait.
        gc.collect()
        gc.freeze()
        _drain.on_sigterm(after_s=config.gateway.drain_s)
        yield
        await scorer.close()
        await reader.close()


def _event_log(config: ServingConfig) -> EventLog:
    settings, forwarder = config.event_log, None
    if (sink := make_sink(settings)) is not None:
        forwarder = Forwarder(
            sink,
            max_backlog_bytes=settings.max_backlog_bytes,
            gather_s=settings.send_every_ms / 1000,
            on_backlog=UNSENT.set,
        )
    return EventLog(
        config.events,
        sync_behind_s=settings.exposure_sync_ms / 1000,
        max_file_bytes=settings.max_file_bytes,
        forwarder=forwarder,
    )


def _histories(config: ServingConfig) -> contextlib.AbstractContextManager[HistoryWriter | None]:
    if not config.gateway.stream_events:
        return contextlib.nullcontext()
    return contextlib.closing(HistoryWriter(config.feature_store, on_loss=UNSTREAMED.inc))


def describe_limits(app: FastAPI, limits: GatewayConfig) -> None:
    """Says in the OpenAPI description what this gateway's settings allow."""
    schemas = app.openapi()["components"]["schemas"]
    schemas["RankRequest"]["properties"]["candidates"]["maxItems"] = limits.max_candidates
    schemas["EventsRequest"]["properties"]["events"]["maxItems"] = limits.max_events


# BentoML puts each request into spans, which nobody collects until its tracing is set up. Then set this to false.
_TRACED: Final = os.environ.setdefault("OTEL_SDK_DISABLED", "true").lower() != "true"
app = FastAPI(title="ReaSeq gateway", version="1", lifespan=_lifespan)
_drain = Drain()
app.add_middleware(Admission)
app.add_middleware(CloseConnections, drain=_drain)
app.add_middleware(RequestIds)
_REFUSALS: dict[int | str, dict[str, Any]] = {
    411: {"description": "The body's length is not said."},
    413: {"description": "Too large a body, or too many entries."},
    429: {"description": "Too many requests are under way; send it again after `retry-after` seconds."},
}
_UNAUTHORIZED: dict[int | str, dict[str, Any]] = {401: {"description": "No right to write, or to force an arm."}}
_FULL: dict[int | str, dict[str, Any]] = {503: {"description": "The event log cannot take this now; send it again."}}


# Asynchronous, though they wait for nothing: plain functions are handed to a thread and back.
async def _ranking(request: Request) -> RankingService:
    service: RankingService = request.app.state.ranking
    return service


async def _limits(request: Request) -> GatewayConfig:
    config: GatewayConfig = request.app.state.config
    return config


Ranking = Annotated[RankingService, Depends(_ranking)]
Limits = Annotated[GatewayConfig, Depends(_limits)]


@app.exception_handler(RequestValidationError)
async def _say_what_is_wrong(_: Request, error: RequestValidationError) -> Response:
    """Where and what, but not the caller's values: FastAPI's own answer fails on NaN and on half characters."""
    found = [{field: problem[field] for field in ("loc", "msg", "type")} for problem in error.errors()]
    return Response(json.dumps({"detail": found}), HTTPStatus.UNPROCESSABLE_ENTITY, media_type="application/json")


Forced = Annotated[
    str | None,
    Header(
        alias=FORCE_HEADER,
        description="`experiment=arm[,experiment=arm]`: answer from these arms, for debugging. Needs the token of "
        "`POST /events`; the exposure is marked `forced` and left out of comparisons.",
    ),
]


@app.post(
    "/rank",
    response_model=RankResponse,
    responses=_REFUSALS | _UNAUTHORIZED,
)
async def rank(request: RankRequest, ranking: Ranking, limits: Limits, arms: Forced = None) -> Response:
    """Ranks candidates for a user."""
    _require_at_most(len(request.candidates), limits.max_candidates, "candidates")
    try:
        answer = await ranking.rank(request, None if arms is None else parse_forced(arms))
    except UserError as error:
        raise HTTPException(422, str(error)) from error
    # Serialised here: FastAPI would validate the answer once more.
    return Response(answer.model_dump_json(), media_type="application/json")


@app.post("/events", status_code=202, responses=_REFUSALS | _UNAUTHORIZED | _FULL)
async def events(request: EventsRequest, ranking: Ranking, limits: Limits) -> EventsResponse:
    """Takes events; they are on the disk when the answer goes out."""
    _require_at_most(len(request.events), limits.max_events, "events")
    try:
        await ranking.record(request.events)
    except (EventLogFullError, OSError) as error:
        raise HTTPException(503, "the event log cannot take this now; send it again") from error
    return EventsResponse(accepted=len(request.events))


def _require_at_most(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise HTTPException(413, f"{count} {what} in one request; at most {limit} are allowed")


# BentoML's own limit, beyond the longest deadline. Each request leaves a timer until then: with the default of a minute
# they are thousands, and each full round of the garbage collector stops all requests for the longer.
_GIVEN_UP_S: Final = MAX_DEADLINE_MS / 1000 + 2


@bentoml.asgi_app(app, path="/")
@bentoml.service(
    name="reaseq_gateway",
    logging={"access": {"enabled": False}},
    traffic={"timeout": _GIVEN_UP_S},
    tracing={} if _TRACED else {"excluded_urls": "."},
)
class Gateway:
    """BentoML's service around the application."""

    def __is_ready__(self) -> bool:
        """Ready from the warm-up to SIGTERM; without Triton or features it still answers, degraded."""
        return hasattr(app.state, "ranking") and not _drain.has_begun
