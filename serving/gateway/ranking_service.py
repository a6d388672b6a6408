"""Answers a ranking request: arm, features, model, order, exposure.

One deadline holds for all of it. A part that fails or is late is done without, and the answer says so.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np

from contracts.tables import EVENT_TYPES
from feature_repo.online.feature_reader import FeatureReader
from feature_repo.online.history_writer import Behavior, HistoryWriter
from feature_repo.online.item_cache import ItemFeatures
from models.ranker.inputs.graph_feed import encode_request
from models.ranker.inputs.item_encoder import EncodedItems
from serving.config import GatewayConfig
from serving.event_log.event_log import EventLog, EventLogFullError
from serving.event_log.log_records import (
    ExperimentNote,
    build_event_record,
    build_exposure_record,
    build_failure_record,
)
from serving.experiments.arm_assignment import Assignment
from serving.gateway.deployed_ranker import DeployedRanker
from serving.gateway.deployment_watcher import Deployment, DeploymentWatcher
from serving.gateway.exploration import draw_page, order_by_score
from serving.gateway.json_logs import bind_request_id
from serving.gateway.messages import FALLBACK, PostedEvent, RankContext, RankRequest, RankResponse
from serving.gateway.page_context import PageContext
from serving.gateway.prometheus_metrics import (
    DEGRADED_TOTAL,
    EVENTS_TOTAL,
    RANK_SECONDS,
    RANKED_TOTAL,
    STAGE_SECONDS,
)
from serving.gateway.ranked_answers import build_ranked_items, score_without_model
from serving.gateway.recent_events import RecentEvents
from serving.gateway.request_features import RequestFeatures, RequestReader
from serving.gateway.team_draft import draft_page, merge_outputs
from serving.triton.triton_client import ModelOutputs, TritonError, TritonScorer

BEHAVIOR_TYPES: Final = frozenset(EVENT_TYPES) - {"impression"}
"""Events that stand in a history. A return does not: it says nothing of what the user wants next."""

# The first read opens connections and the first call compiles: far slower than any request.
_WARM_UP_S: Final = 10.0
_WARM_UP_CONTEXT: Final = RankContext(query="warm-up")
_log = logging.getLogger(__name__)


class RankingService:
    """The gateway without HTTP."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        deployments: DeploymentWatcher,
        features: FeatureReader,
        scorer: TritonScorer,
        log: EventLog,
        histories: HistoryWriter | None = None,
        page_context: PageContext | None = None,
    ) -> None:
        """Takes its parts ready-made.

        Without `histories`, events only go to the log. Without `page_context`, only a seed item tells a
        ranker what a page is about.
        """
        self._config = config
        self._deployments = deployments
        self._reader = RequestReader(features, page_context)
        self._scorer = scorer
        self._event_log = log
        self._histories = histories
        self._page_context = page_context
        self._recent_events = RecentEvents()
        self._prepared_deployment: Deployment | None = None

    async def rank_candidates(
        self, request: RankRequest, forced_arms: Mapping[str, str] | None = None
    ) -> RankResponse:
        """Ranks the candidates; the exposure is in the log when it returns.

        Args:
            request: user and candidates.
            forced_arms: experiment -> arm to answer from, for debugging.

        Raises:
            UserError: `forced_arms` names an experiment or an arm that is not there.
        """
        request_id = bind_request_id(request.request_id)
        started = time.monotonic()
        with RANK_SECONDS.time():
            deployment = self._follow_deployment()
            assignment, ranker = deployment.choose_ranker(request.user_id, forced_arms)
            other_ranker = deployment.find_interleaved(assignment)
            try:
                answer, teams = await self._answer_request(
                    request, request_id, assignment, ranker, other_ranker
                )
            except Exception as error:
                failure = build_failure_record(
                    request,
                    request_id,
                    assignment,
                    ranker.spec.version,
                    cause=type(error).__name__,
                    latency_ms=(time.monotonic() - started) * 1000,
                )
                self._log_failure(failure)
                raise
            note = ExperimentNote(deployment.routes.experiment_id, teams)
            answer = self._log_exposure(request, answer, ranker.spec.version, note, started=started)
        RANKED_TOTAL.labels(answer.arm, answer.model_version).inc()
        for reason in answer.degraded:
            DEGRADED_TOTAL.labels(reason).inc()
        return answer

    async def log_posted_events(self, events: Sequence[PostedEvent]) -> None:
        """Writes events to the log; they are on the disk when it returns, and soon in the users' histories.

        One that this worker has taken before by its `event_id` is logged, but enters no history again.

        Raises:
            EventLogFullError: too much waits for the disk.
            OSError: the disk refused.
        """
        now = datetime.now(UTC)
        await self._event_log.write_and_sync("events", [build_event_record(event, now) for event in events])
        # Only now: what the disk refused will be sent again.
        new_events = self._recent_events.take_new(events)
        for event in new_events:
            EVENTS_TOTAL.labels(event.meant_type).inc()
        if self._histories is not None:
            self._histories.queue_behaviors(_extract_behaviors(new_events, now))

    async def warm_up(self) -> None:
        """Opens connections and fills caches, so that the first request is not the slow one."""
        for ranker in self._follow_deployment().rankers.values():
            warm_up_request = RankRequest(user_id="warm-up", candidates=["warm-up"], context=_WARM_UP_CONTEXT)
            features = await self._reader.read_features(warm_up_request, ranker, timeout_s=_WARM_UP_S)
            try:
                await self._run_model(warm_up_request, ranker, features, timeout_s=_WARM_UP_S)
            except TritonError as error:
                _log.warning("warm-up of %s: %s", ranker.spec.model_name, error)

    def current_deployment(self) -> Deployment:
        """Who is in service now."""
        return self._deployments.current_deployment()

    def _follow_deployment(self) -> Deployment:
        deployment = self.current_deployment()
        if deployment is not self._prepared_deployment and self._page_context is not None:
            self._page_context.prepare_spaces(
                {
                    ranker.spec.space
                    for ranker in deployment.rankers.values()
                    if ranker.reads_page_vector and ranker.spec.space is not None
                }
            )
            self._prepared_deployment = deployment
        return deployment

    async def _answer_request(
        self,
        request: RankRequest,
        request_id: str,
        assignment: Assignment,
        ranker: DeployedRanker,
        other_ranker: DeployedRanker | None,
    ) -> tuple[RankResponse, list[str] | None]:
        """The answer and, where two rankers share the page, whose pick each item is."""
        answer_by = time.monotonic() + self._config.deadline_ms / 1000
        rankers = [ranker] if other_ranker is None else [ranker, other_ranker]
        scored, *others = await asyncio.gather(
            *(self._score_candidates(request, each, answer_by) for each in rankers)
        )
        features, outputs = scored
        model_version, teams = ranker.spec.version, None
        if outputs is None:
            features.degraded.append("model")
            outputs = {"score": score_without_model(features.candidates, features.history)}
            page = order_by_score(outputs["score"], limit=request.limit)
            model_version = FALLBACK
        elif others and (other_outputs := others[0].outputs) is not None:
            drafted = draft_page(
                outputs["score"], other_outputs["score"], request_id=request_id, limit=request.limit
            )
            page, teams = drafted.order, drafted.teams
            outputs = merge_outputs(outputs, other_outputs, drafted)
        else:
            page = draw_page(
                outputs["score"], self._config.exploration, request_id=request_id, limit=request.limit
            )
        needs_vector = ranker.vector_dim > 0
        # Not validated: its parts come from here, and an answer has hundreds of items.
        answer = RankResponse.model_construct(
            request_id=request_id,
            arm=assignment.arm,
            layers=assignment.layers,
            assignment=assignment.source,
            model_version=model_version,
            degraded=features.degraded,
            items=build_ranked_items(features.candidates, outputs, page, needs_vector=needs_vector),
        )
        return answer, teams

    async def _score_candidates(
        self, request: RankRequest, ranker: DeployedRanker, answer_by: float
    ) -> "_ScoredCandidates":
        """Features and the model's outputs; none where it does not answer."""
        with STAGE_SECONDS.labels("features").time():
            feature_timeout_s = self._config.deadline_ms / 1000 * self._config.feature_share
            features = await self._reader.read_features(request, ranker, timeout_s=feature_timeout_s)
        try:
            with STAGE_SECONDS.labels("model").time():
                seconds_left = answer_by - time.monotonic()
                outputs = await self._run_model(request, ranker, features, timeout_s=seconds_left)
        except TritonError as error:
            _log.warning("no answer from the model %s: %s", ranker.spec.model_name, error)
            return _ScoredCandidates(features, None)
        return _ScoredCandidates(features, outputs)

    async def _run_model(
        self, request: RankRequest, ranker: DeployedRanker, features: RequestFeatures, *, timeout_s: float
    ) -> ModelOutputs:
        spec, user = ranker.spec, features.user
        now = request.context.timestamp or datetime.now(UTC)
        feed = encode_request(
            spec,
            candidate_ids=request.candidates,
            candidates=_as_encoded(features.candidates),
            history=_as_encoded(features.history),
            history_event_types=user.history_event_types,
            history_ages_s=user.ages_at(now),
            inferred=_as_encoded(features.inferred),
            inferred_ids=user.inferred_item_ids if spec.features.inferred else [],
            inferred_scores=user.inferred_scores if spec.features.inferred else [],
            timestamp=now,
            scene=request.context.scene,
            context_vector=features.context_vector,
        )
        outputs = await self._scorer.score(spec.model_name, feed, ranker.output_names, timeout_s=timeout_s)
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise TritonError("an output is not finite")
        return {name: values[0] for name, values in outputs.items()}

    def _log_failure(self, failure: dict[str, Any]) -> None:
        """Logs that there is no answer. The caller hears of the failure itself, whatever the log says."""
        try:
            self._event_log.write_without_sync("exposures", [failure])
        except (EventLogFullError, OSError) as error:
            _log.error("the failure was not logged: %s", error)

    def _log_exposure(
        self,
        request: RankRequest,
        answer: RankResponse,
        routed_version: str,
        note: ExperimentNote,
        *,
        started: float,
    ) -> RankResponse:
        """Logs what will be shown; an answer that could not be logged says so, and is counted."""
        try:
            with STAGE_SECONDS.labels("event_log").time():
                latency_ms = (time.monotonic() - started) * 1000
                exposure = build_exposure_record(request, answer, routed_version, note, latency_ms=latency_ms)
                self._event_log.write_without_sync("exposures", [exposure])
        except (EventLogFullError, OSError) as error:
            _log.error("the exposure was not logged: %s", error)
            return answer.model_copy(update={"degraded": [*answer.degraded, "event_log"]})
        if self._event_log.is_sink_failing:
            return answer.model_copy(update={"degraded": [*answer.degraded, "event_sink"]})
        return answer


class _ScoredCandidates(NamedTuple):
    """What one ranker makes of the candidates."""

    features: RequestFeatures
    outputs: ModelOutputs | None
    """None where the model did not answer."""


def _as_encoded(items: ItemFeatures) -> EncodedItems:
    return EncodedItems.from_codes(items.codes, items.vectors)


def _extract_behaviors(events: Sequence[PostedEvent], now: datetime) -> list[Behavior]:
    """What users did, and not only saw or took back; nothing lies in the future, whatever the sender's clock
    says."""
    return [
        Behavior(
            posted_event.user_id,
            posted_event.item_id,
            posted_event.meant_type,
            min(posted_event.timestamp or now, now),
        )
        for posted_event in events
        if posted_event.meant_type in BEHAVIOR_TYPES
    ]
