"""Answers a ranking request: arm, features, model, order, exposure.

One deadline holds for all of it, and a part that fails or is late is done without.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

import numpy as np

from feature_repo.items import ItemFeatures, unknown_items
from feature_repo.online import UserFeatures
from models.ranker.encoding import EncodedItems, encode_request
from serving.answers import behaviors_of, event_record, exposure_record, fallback_scores, ranked_items
from serving.assignment import Assignment
from serving.config import GatewayConfig
from serving.deployments import Deployments
from serving.event_log import EventLog, EventLogFullError
from serving.logs import name_request
from serving.messages import PostedEvent, RankRequest, RankResponse
from serving.metrics import DEGRADED, EVENTS, RANK_SECONDS, RANKED, STAGE_SECONDS
from serving.parts import Features, Histories, Scorer
from serving.rankers import DeployedRanker, service_name
from serving.triton_client import Outputs, TritonError

FALLBACK: Final = "fallback"
"""Model version of answers that no model scored."""

_WARM_UP_S: Final = 10.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass
class _Gathered:
    """What is known for one request, and what is not."""

    user: UserFeatures
    candidates: ItemFeatures
    history: ItemFeatures
    inferred: ItemFeatures
    degraded: list[str] = field(default_factory=list)


class RankingService:
    """The gateway without HTTP."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        deployments: Deployments,
        features: Features,
        scorer: Scorer,
        log: EventLog,
        histories: Histories | None = None,
    ) -> None:
        """Takes its parts ready-made; without `histories`, events only go to the log."""
        self._config = config
        self._deployments = deployments
        self._features = features
        self._scorer = scorer
        self._log = log
        self._histories = histories

    async def rank(self, request: RankRequest, forced: Mapping[str, str] | None = None) -> RankResponse:
        """Ranks the candidates; the exposure is in the log when it returns.

        Args:
            request: user and candidates.
            forced: experiment -> arm to answer from, for debugging.

        Raises:
            UserError: `forced` names an experiment or an arm that is not there.
        """
        request_id = name_request(request.request_id)
        with RANK_SECONDS.time():
            assignment, ranker = self._deployments.current().choose(request.user_id, forced)
            answer = await self._rank(request, request_id, assignment, ranker)
            answer = self._expose(request, answer, routed_version=ranker.spec.version)
        RANKED.labels(answer.arm, answer.model_version).inc()
        for reason in answer.degraded:
            DEGRADED.labels(reason).inc()
        return answer

    async def record(self, events: Sequence[PostedEvent]) -> None:
        """Writes events to the log; they are on the disk when it returns, and soon in the users' histories.

        Raises:
            EventLogFullError: too much waits for the disk.
            OSError: the disk refused.
        """
        now = datetime.now(UTC)
        await self._log.append("events", [event_record(event, now) for event in events])
        for event in events:
            EVENTS.labels(event.event_type).inc()
        if self._histories is not None:
            self._histories.add(behaviors_of(events, now))

    async def warm_up(self) -> None:
        """Opens connections and fills caches, so that the first request is not the slow one; failures may pass."""
        deployment = self._deployments.current()
        for ranker in deployment.rankers.values():
            request = RankRequest(user_id="warm-up", candidates=["warm-up"])
            known = await self._gather(request, ranker, timeout_s=_WARM_UP_S)
            try:
                await self._score(request, ranker, known, timeout_s=_WARM_UP_S)
            except TritonError as error:
                _log.warning("warm-up of %s: %s", ranker.spec.model_name, error)

    async def _rank(
        self, request: RankRequest, request_id: str, assignment: Assignment, ranker: DeployedRanker
    ) -> RankResponse:
        deadline = time.monotonic() + self._config.deadline_ms / 1000
        with STAGE_SECONDS.labels("features").time():
            budget_s = self._config.deadline_ms / 1000 * self._config.feature_share
            known = await self._gather(request, ranker, timeout_s=budget_s)
        version = ranker.spec.version
        try:
            with STAGE_SECONDS.labels("model").time():
                outputs = await self._score(request, ranker, known, timeout_s=deadline - time.monotonic())
        except TritonError as error:
            _log.warning("no answer from the model %s: %s", ranker.spec.model_name, error)
            known.degraded.append("model")
            outputs, version = {"score": fallback_scores(known.candidates, known.history)}, FALLBACK
        return RankResponse.model_construct(
            request_id=request_id,
            arm=assignment.arm,
            layers=assignment.layers,
            assignment=assignment.how,
            model_version=version,
            degraded=known.degraded,
            items=ranked_items(known.candidates, outputs, limit=request.limit, needs_vector=ranker.vector_dim > 0),
        )

    async def _gather(self, request: RankRequest, ranker: DeployedRanker, *, timeout_s: float) -> _Gathered:
        """Reads the features; what fails or takes too long is left out."""
        service, dim, encode = service_name(ranker.spec), ranker.vector_dim, ranker.encoder.codes
        read_items = partial(self._features.items, service=service, dim=dim, encode=encode)
        deadline = time.monotonic() + timeout_s
        user, candidates = await asyncio.gather(
            _within(self._features.user(request.user_id, service=service), deadline),
            _within(read_items(request.candidates), deadline),
        )
        person = user or UserFeatures()
        past = person.history_item_ids[: ranker.spec.reach]
        guessed = person.inferred_item_ids[: ranker.spec.inferred_length] if ranker.spec.features.inferred else []
        both = await _within(read_items([*past, *guessed]), deadline)
        broken = user is None or candidates is None or both is None
        both = both or unknown_items([*past, *guessed], dim).encoded(encode)
        return _Gathered(
            user=person,
            candidates=candidates or unknown_items(request.candidates, dim).encoded(encode),
            history=both.part(slice(0, len(past))),
            inferred=both.part(slice(len(past), None)),
            degraded=["feature_store"] if broken else _missing(person, ranker),
        )

    async def _score(
        self, request: RankRequest, ranker: DeployedRanker, known: _Gathered, *, timeout_s: float
    ) -> Outputs:
        now = request.context.timestamp or datetime.now(UTC)
        feed = encode_request(
            ranker.spec,
            candidate_ids=request.candidates,
            candidates=_encoded(known.candidates),
            history=_encoded(known.history),
            history_event_types=known.user.history_event_types,
            history_ages_s=known.user.ages_at(now),
            inferred=_encoded(known.inferred),
            inferred_ids=known.user.inferred_item_ids if ranker.spec.features.inferred else [],
            inferred_scores=known.user.inferred_scores if ranker.spec.features.inferred else [],
            timestamp=now,
        )
        outputs = await self._scorer.score(ranker.spec.model_name, feed, ranker.outputs, timeout_s=timeout_s)
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise TritonError("an output is not finite")
        return {name: values[0] for name, values in outputs.items()}

    def _expose(self, request: RankRequest, answer: RankResponse, *, routed_version: str) -> RankResponse:
        """Logs what will be shown. An answer that could not be logged says so, and is counted: nothing is silent."""
        try:
            with STAGE_SECONDS.labels("event_log").time():
                self._log.put("exposures", [exposure_record(request, answer, routed_version=routed_version)])
        except (EventLogFullError, OSError) as error:
            _log.error("the exposure was not logged: %s", error)
            return answer.model_copy(update={"degraded": [*answer.degraded, "event_log"]})
        if self._log.is_sink_failing:
            return answer.model_copy(update={"degraded": [*answer.degraded, "event_sink"]})
        return answer


async def _within(work: Awaitable[_T], deadline: float) -> _T | None:
    """The result, or None where it failed or came too late."""
    try:
        async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
            return await work
    except TimeoutError:
        _log.warning("features were not read in time")
    except Exception as error:
        # Whatever a store may raise, the user gets a ranking.
        _log.warning("features could not be read: %s", error)
    return None


def _missing(user: UserFeatures, ranker: DeployedRanker) -> list[str]:
    used = {"history": True, "inferred": ranker.spec.features.inferred}
    return [f"no_{part}" for part in user.missing if used[part]]


def _encoded(items: ItemFeatures) -> EncodedItems:
    return EncodedItems.of(items.codes, items.vectors)
