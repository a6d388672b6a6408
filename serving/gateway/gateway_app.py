"""The gateway's HTTP face: `POST /rank` and `POST /events`.

BentoML adds `/livez`, `/readyz`, `/healthz` and `/metrics`. The routes are a FastAPI application, since
BentoML's own endpoints wrap a body that is one typed object.

REASEQ_SERVING_CONFIG=serving.json bentoml serve serving.gateway.gateway_app:Gateway
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import reprlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Final

import bentoml
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError

from contracts.errors import UserError
from feature_repo.online.feature_reader import FeatureReader
from feature_repo.online.history_writer import HistoryWriter
from serving.config import MAX_DEADLINE_MS, GatewayConfig, ServingConfig
from serving.event_log.event_log import EventLog, EventLogFullError
from serving.event_log.redis_sink import open_sink
from serving.event_log.sink_forwarder import SinkForwarder
from serving.experiments.arm_assignment import parse_forced_arms
from serving.gateway.admission import FORCED_ARMS_HEADER, AdmissionMiddleware
from serving.gateway.connection_drain import CloseConnectionsMiddleware, ConnectionDrain
from serving.gateway.deployment_watcher import DeploymentWatcher
from serving.gateway.json_logs import RequestIdMiddleware, configure_json_logs
from serving.gateway.messages import (
    MAX_EVENTS,
    EventsRequest,
    EventsResponse,
    RankRequest,
    RankResponse,
    StatusResponse,
)
from serving.gateway.page_context import PageContext
from serving.gateway.prometheus_metrics import SINK_WAITING_BYTES, UNSTREAMED_TOTAL
from serving.gateway.ranking_service import RankingService
from serving.triton.triton_client import TritonScorer

# Each sending to the sink takes time from requests, so records of so long go together.
_SINK_GATHER_S: Final = 0.02
# How often a gateway that waits looks whether anything is deployed.
_DEPLOYMENT_POLL_S: Final = 1.0
_log = logging.getLogger(__name__)
# BentoML's own limit, beyond the longest deadline. Each request leaves a timer until then: with the default
# of a minute they are thousands, and each full round of the garbage collector stops all requests for the
# longer.
_BENTOML_TIMEOUT_S: Final = MAX_DEADLINE_MS / 1000 + 2
# BentoML puts each request into spans, which nobody collects until its tracing is set up. Then set this to
# false.
_IS_TRACED: Final = os.environ.setdefault("OTEL_SDK_DISABLED", "true").lower() != "true"


@contextlib.asynccontextmanager
async def _run_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens everything in the worker process, after the fork, and closes it when the worker ends.

    On an empty cluster nothing is deployed yet. Then the worker lives, is not ready, and says why.
    """
    configure_json_logs()
    config = ServingConfig.from_environment()
    describe_limits(app, config.gateway)
    app.state.config = config.gateway
    async with contextlib.AsyncExitStack() as stack:
        event_log = stack.enter_context(_open_event_log(config))
        _drain.begin_on_sigterm(after_s=config.gateway.drain_s)
        if not await _try_to_open_ranking(app, config, event_log, stack):
            stack.callback(asyncio.create_task(_wait_for_deployment(app, config, event_log, stack)).cancel)
        yield


async def _wait_for_deployment(
    app: FastAPI, config: ServingConfig, event_log: EventLog, stack: contextlib.AsyncExitStack
) -> None:
    while True:
        try:
            if await _try_to_open_ranking(app, config, event_log, stack):
                return
        # Whatever it is: a file that is just being written ends nothing, and the next look may find it whole.
        except Exception as error:
            _log.warning("not ready: %s", error, exc_info=True)
            app.state.waiting_for = str(error)
        await asyncio.sleep(_DEPLOYMENT_POLL_S)


async def _try_to_open_ranking(
    app: FastAPI, config: ServingConfig, event_log: EventLog, stack: contextlib.AsyncExitStack
) -> bool:
    """Puts the ranking service into `app.state.ranking`; where that fails, the reason into
    `app.state.waiting_for`."""
    try:
        async with contextlib.AsyncExitStack() as opened:
            ranking = await _open_ranking(config, event_log, opened)
            # Now the application's own stack closes them, when the worker ends.
            stack.push_async_callback(opened.pop_all().aclose)
    except (OSError, ValueError) as error:
        if getattr(app.state, "waiting_for", None) != str(error):
            _log.warning("not ready: %s", error)
        app.state.waiting_for = str(error)
        return False
    app.state.ranking = ranking
    # What is here stays: the collector need not look through it again and again while requests wait.
    gc.collect()
    gc.freeze()
    return True


async def _open_ranking(
    config: ServingConfig, event_log: EventLog, stack: contextlib.AsyncExitStack
) -> RankingService:
    # First what is cheap to look for, so that waiting costs next to nothing.
    deployment_watcher = DeploymentWatcher(config.state, config.rankers_folder)
    feature_reader = FeatureReader(config.feature_store, cached_items=config.gateway.cached_items)
    stack.push_async_callback(feature_reader.close)
    triton_scorer = TritonScorer(config.triton)
    stack.push_async_callback(triton_scorer.close)
    ranking = RankingService(
        config.gateway,
        deployments=deployment_watcher,
        features=feature_reader,
        scorer=triton_scorer,
        log=event_log,
        histories=stack.enter_context(
            contextlib.closing(HistoryWriter(config.feature_store, on_loss=UNSTREAMED_TOTAL.inc))
        ),
        page_context=stack.enter_context(
            contextlib.closing(
                PageContext(config.feature_store, cached_queries=config.gateway.cached_queries)
            )
        ),
    )
    await ranking.warm_up()
    return ranking


def _open_event_log(config: ServingConfig) -> EventLog:
    sink = open_sink(config.event_log)
    if sink is None:
        return EventLog(config.event_log_folder)
    forwarder = SinkForwarder(
        sink,
        max_backlog_bytes=config.event_log.max_backlog_bytes,
        gather_s=_SINK_GATHER_S,
        on_backlog=SINK_WAITING_BYTES.set,
    )
    return EventLog(config.event_log_folder, forwarder=forwarder)


def describe_limits(app: FastAPI, limits: GatewayConfig) -> None:
    """Says in the OpenAPI description what this gateway's settings allow."""
    schemas = app.openapi()["components"]["schemas"]
    schemas["RankRequest"]["properties"]["candidates"]["maxItems"] = limits.max_candidates


# Only ids have a pattern.
_MESSAGES: Final = {"string_pattern_mismatch": "An id must not be white space only"}
Responses = dict[int | str, dict[str, Any]]
app = FastAPI(title="ReaSeq gateway", version="1", lifespan=_run_lifespan)
_drain = ConnectionDrain()
# The last one added sees a request first: refusals are named and drained as well.
app.add_middleware(AdmissionMiddleware)
app.add_middleware(CloseConnectionsMiddleware, drain=_drain)
app.add_middleware(RequestIdMiddleware)
_REFUSALS: Responses = {
    411: {"description": "The body's length is not said."},
    413: {"description": "Too large a body, or too many entries."},
    429: {"description": "Too many requests are under way; send it again after `retry-after` seconds."},
    401: {"description": "No right to write, or to force an arm."},
}
_LOG_FULL: Responses = {503: {"description": "The event log cannot take this now; send it again."}}


# Asynchronous, though they wait for nothing: plain functions are handed to a thread and back.
async def _get_ranking(request: Request) -> RankingService:
    service: RankingService | None = getattr(request.app.state, "ranking", None)
    if service is None:
        raise HTTPException(503, f"not ready: {request.app.state.waiting_for}")
    return service


async def _get_limits(request: Request) -> GatewayConfig:
    config: GatewayConfig = request.app.state.config
    return config


CurrentRanking = Annotated[RankingService, Depends(_get_ranking)]
CurrentLimits = Annotated[GatewayConfig, Depends(_get_limits)]
ForcedArms = Annotated[
    str | None,
    Header(
        alias=FORCED_ARMS_HEADER,
        description="`experiment=arm[,experiment=arm]`: answer from these arms, for debugging. Needs the "
        "token of `POST /events`; the exposure is marked `forced` and left out of comparisons.",
    ),
]


@app.exception_handler(RequestValidationError)
async def _answer_invalid_request(_: Request, error: RequestValidationError) -> Response:
    """Says where, what, and how the value begins: FastAPI's own answer fails on NaN and half characters."""
    problems = [
        {
            "loc": problem["loc"],
            "msg": _MESSAGES.get(problem["type"], problem["msg"]),
            "type": problem["type"],
        }
        | _quote_input(problem.get("input"))
        for problem in error.errors()
    ]
    content = json.dumps({"detail": problems})
    return Response(content, HTTPStatus.UNPROCESSABLE_ENTITY, media_type="application/json")


def _quote_input(value: object) -> dict[str, str]:
    if not isinstance(value, str | int | float):
        return {}  # a whole body says nothing that its place does not
    return {"input": reprlib.repr(value)}


@app.post("/rank", response_model=RankResponse, responses=_REFUSALS)
async def rank(
    request: RankRequest, ranking: CurrentRanking, limits: CurrentLimits, arms: ForcedArms = None
) -> Response:
    """Ranks candidates for a user."""
    _require_at_most(len(request.candidates), limits.max_candidates, "candidates")
    try:
        forced_arms = None if arms is None else parse_forced_arms(arms)
        answer = await ranking.rank_candidates(request, forced_arms)
    except UserError as error:
        raise HTTPException(422, str(error)) from error
    # Serialized here: FastAPI would validate the answer once more.
    return Response(answer.model_dump_json(), media_type="application/json")


@app.post("/events", status_code=202, responses=_REFUSALS | _LOG_FULL)
async def events(request: EventsRequest, ranking: CurrentRanking) -> EventsResponse:
    """Takes events; they are on the disk when the answer goes out."""
    _require_at_most(len(request.events), MAX_EVENTS, "events")
    try:
        await ranking.log_posted_events(request.events)
    except (EventLogFullError, OSError) as error:
        raise HTTPException(503, "the event log cannot take this now; send it again") from error
    return EventsResponse(accepted=len(request.events))


@app.get("/status")
async def status(request: Request) -> StatusResponse:
    """Tells who is in service; also before anybody is."""
    service: RankingService | None = getattr(request.app.state, "ranking", None)
    if service is None:
        return StatusResponse(ready=False, waiting_for=getattr(request.app.state, "waiting_for", "starting"))
    deployment = service.current_deployment()
    return StatusResponse(
        ready=not _drain.has_begun, routes=deployment.routes, models=sorted(deployment.rankers)
    )


def _require_at_most(count: int, limit: int, noun: str) -> None:
    if count > limit:
        raise HTTPException(413, f"{count} {noun} in one request; at most {limit} are allowed")


@bentoml.asgi_app(app, path="/")
@bentoml.service(
    name="reaseq_gateway",
    logging={"access": {"enabled": False}},
    traffic={"timeout": _BENTOML_TIMEOUT_S},
    tracing={} if _IS_TRACED else {"excluded_urls": "."},
)
class Gateway:
    """BentoML's service around the application."""

    def __is_ready__(self) -> bool:
        """Ready from the warm-up to SIGTERM; without Triton or features it still answers, degraded.

        Raises:
            HTTPException: nothing is deployed yet; `/readyz` answers 503 with the reason.
        """
        if not hasattr(app.state, "ranking"):
            raise HTTPException(503, getattr(app.state, "waiting_for", "starting"))
        return not _drain.has_begun
