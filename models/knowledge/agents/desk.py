"""The desk between agents and teacher: cache, validation, one repair, quarantine of what stays wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from models.knowledge.agents.prompts import read_prompt
from models.knowledge.agents.roles import Agent, Reasoned
from models.knowledge.cache import RequestCache, request_key
from models.knowledge.ledger import Ledger
from models.knowledge.teachers.base import Request, Response, Teacher

Answer = TypeVar("Answer", bound=Reasoned)

_MAX_COMPLAINT_CHARS = 300


@dataclass(frozen=True)
class Outcome(Generic[Answer]):
    """What became of one request."""

    answer: Answer | None
    fault: str = ""
    """Why there is no valid answer."""
    raw: str = ""
    """The last answer as it came, for the quarantine."""


class Desk:
    """Puts the agents' questions to one teacher."""

    def __init__(self, teacher: Teacher, cache: RequestCache, ledger: Ledger) -> None:
        self._teacher = teacher
        self._cache = cache
        self._ledger = ledger

    def ask(self, agent: Agent[Answer], inputs: Sequence[BaseModel]) -> list[Outcome[Answer]]:
        """Asks one agent about a batch of inputs; equal inputs are asked once."""
        distinct = list(dict.fromkeys(inputs))
        version = read_prompt(agent.name).version
        requests = [Request(agent.name, given, agent.answer, version) for given in distinct]
        outcomes = [_judge(agent, response) for response in self._respond(requests)]
        outcomes = self._repair(agent, requests, outcomes)
        account = self._ledger.accounts[agent.name]
        account.requests += len(distinct)
        account.invalid += sum(outcome.answer is None for outcome in outcomes)
        by_input = dict(zip(distinct, outcomes, strict=True))
        return [by_input[given] for given in inputs]

    def _repair(
        self, agent: Agent[Answer], requests: list[Request], outcomes: list[Outcome[Answer]]
    ) -> list[Outcome[Answer]]:
        # No text means no answer came at all: the teacher has retried that already.
        broken = [number for number, outcome in enumerate(outcomes) if outcome.answer is None and outcome.raw]
        again = [replace(requests[number], attempt=1, complaint=outcomes[number].fault) for number in broken]
        self._ledger.accounts[agent.name].repaired += len(again)
        repaired = dict(zip(broken, (_judge(agent, response) for response in self._respond(again)), strict=True))
        return [repaired.get(number, outcome) for number, outcome in enumerate(outcomes)]

    def _respond(self, requests: Sequence[Request]) -> list[Response]:
        keys = [request_key(request, self._teacher) for request in requests]
        digests = [key.digest for key in keys]
        cached = self._cache.get_many(digests)
        responses = [cached.get(digest) for digest in digests]
        missing = [number for number, response in enumerate(responses) if response is None]
        for response in self._teacher.answer([requests[number] for number in missing]):
            number = missing[response.number]
            if not response.error:
                self._cache.put(keys[number], response)
            self._ledger.charge(requests[number].agent, response)
            responses[number] = response
        if requests and not requests[0].attempt:
            self._ledger.accounts[requests[0].agent].cached += len(requests) - len(missing)
        assert all(response is not None for response in responses), "the teacher left a request unanswered"
        return [response for response in responses if response is not None]


def _judge(agent: Agent[Answer], response: Response) -> Outcome[Answer]:
    if response.error:
        return Outcome(None, fault=response.error)
    if response.truncated:
        return Outcome(None, fault="the answer was cut off at the token limit", raw=response.text)
    try:
        return Outcome(agent.answer.model_validate_json(response.text), raw=response.text)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:3])
        return Outcome(None, fault=faults[:_MAX_COMPLAINT_CHARS], raw=response.text or "(empty)")
