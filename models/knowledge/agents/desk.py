"""The desk between agents and teacher: many conversations at once; cache, validation, one repair, budget.

A conversation is a generator: it yields the questions that it can ask now and is sent their outcomes. The desk keeps a
bounded number of conversations open and hands the teacher whatever any of them asks, so a slow answer holds up its own
product only, and memory does not grow with the catalogue.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from models.knowledge.agents.conversation import Conversation, Outcome, Question, judge
from models.knowledge.agents.prompts import read_prompt
from models.knowledge.agents.roles import Agent
from models.knowledge.answers import RequestCache
from models.knowledge.budget import Budget, BudgetReachedError
from models.knowledge.ledger import Ledger
from models.knowledge.teachers.base import LiveTeacher, Request, Response, Teacher

Result = TypeVar("Result")

_MAX_SHARED: Final = 1024
"""Answers that serve many products and are kept in memory."""


@dataclass
class _Seat(Generic[Result]):
    """An open conversation and what it waits for."""

    conversation: Conversation[Result]
    outcomes: list[Outcome[Any] | None] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return all(outcome is not None for outcome in self.outcomes)


@dataclass
class _Ticket:
    """One request on its way, and the places (seat, number of its question) that wait for it."""

    agent: Agent[Any]
    request: Request
    digest: str
    question: str
    """Digest of the first attempt."""
    places: list[tuple[_Seat[Any], int]]
    raw: str = ""
    """The first answer, where this is its repair."""


class Desk:
    """Puts the agents' questions to one teacher."""

    def __init__(
        self, teacher: Teacher, cache: RequestCache, ledger: Ledger, budget: Budget, *, num_seats: int = 512
    ) -> None:
        """Opens the desk; at most `num_seats` conversations are held at once."""
        self._teacher = teacher
        self._cache = cache
        self._ledger = ledger
        self._budget = budget
        self._num_seats = num_seats
        self._num_taken = 0
        self._new: list[_Ticket] = []
        """Not looked up in the cache yet."""
        self._ready: deque[_Ticket] = deque()
        """Not in the cache, not sent yet."""
        self._open: dict[str, _Ticket] = {}
        """All tickets by digest: equal requests of several conversations are one."""
        self._done: deque[Any] = deque()
        self._shared: OrderedDict[str, Outcome[Any]] = OrderedDict()
        self._stopped = ""

    def hold(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """Holds all conversations; yields what each returns, in the order in which they end.

        Raises:
            BudgetReachedError: no more may be asked; what was in flight has been answered and cached.
            UserError: the teacher cannot go on.
        """
        waiting = iter(conversations)
        while self._seat(waiting) or self._done or self._ready:
            yield from self._hand_out()
            feed = _Feed(self._take)
            for response in self._ask(feed):
                self._deliver(feed.sent.pop(response.number), response)
                self._look_up()
                yield from self._hand_out()
                self._seat(waiting)
            assert not feed.sent, "the teacher left a request unanswered"
            if self._stopped:
                raise BudgetReachedError(self._stopped)
        assert not self._open, "a question was left without an answer"

    def _seat(self, waiting: Iterator[Conversation[Result]]) -> bool:
        """Opens as many conversations as there are free seats."""
        opened = False
        for _ in range(self._num_seats - self._num_taken):
            if (conversation := next(waiting, None)) is None:
                break
            opened = True
            self._num_taken += 1
            self._advance(_Seat(conversation))
        self._look_up()
        return opened

    def _hand_out(self) -> Iterator[Any]:
        while self._done:
            yield self._done.popleft()

    def _advance(self, seat: _Seat[Any]) -> None:
        """Tells a conversation what it waited for and takes its next questions."""
        outcomes = tuple(outcome for outcome in seat.outcomes if outcome)
        try:
            questions = seat.conversation.send(outcomes) if outcomes else next(seat.conversation)
        except StopIteration as end:
            self._num_taken -= 1
            self._done.append(end.value)
            return
        seat.outcomes = [None] * len(questions)
        for number, question in enumerate(questions):
            self._note(question, seat, number)

    def _note(self, question: Question[Any], seat: _Seat[Any], number: int) -> None:
        agent = question.agent
        request = Request(agent.name, question.given, agent.answer, read_prompt(agent.name).version)
        self._add(agent, request, [(seat, number)])

    def _add(
        self,
        agent: Agent[Any],
        request: Request,
        places: list[tuple[_Seat[Any], int]],
        *,
        question: str = "",
        raw: str = "",
    ) -> None:
        digest = self._cache.digest(request)
        if digest in self._open:
            self._open[digest].places += places
            return
        self._open[digest] = ticket = _Ticket(agent, request, digest, question or digest, places, raw)
        self._new.append(ticket)

    def _look_up(self) -> None:
        """Answers from the cache what it knows, over and over, as each answer may lead to further questions."""
        while self._new:
            tickets, self._new = self._new, []
            cached = self._cache.get_many([ticket.digest for ticket in tickets if ticket.question not in self._shared])
            for ticket in tickets:
                if known := self._shared.get(ticket.question):
                    self._settle(ticket, known)
                    continue
                first = not ticket.request.attempt
                account = self._ledger.accounts[ticket.agent.name]
                account.requests += first
                agreed = self._cache.agreed(ticket.question) if ticket.agent.shared else None
                if response := agreed or cached.get(ticket.digest):
                    account.cached += first
                    self._judge(ticket, response)
                else:
                    self._ready.append(ticket)

    def _ask(self, feed: "_Feed") -> Iterator[Response]:
        if not self._ready:
            return iter(())
        if isinstance(self._teacher, LiveTeacher):
            return self._teacher.answer_live(feed)
        return self._teacher.answer(list(feed))

    def _take(self) -> _Ticket | None:
        """The next request to send; none when nothing is ready or the budget is reached."""
        if not self._ready or self._stopped:
            return None
        self._stopped = self._budget.reached()
        if self._stopped:
            return None
        ticket = self._ready.popleft()
        self._ledger.count(ticket.agent.name)
        return ticket

    def _deliver(self, ticket: _Ticket, response: Response) -> None:
        self._ledger.charge(ticket.agent.name, response)
        if not response.error:
            self._cache.put(ticket.digest, response)
        self._judge(ticket, response)

    def _judge(self, ticket: _Ticket, response: Response) -> None:
        outcome = judge(ticket.agent, response)
        account = self._ledger.accounts[ticket.agent.name]
        # No text means no answer came at all: the teacher has retried that already.
        if outcome.answer is None and outcome.raw and not ticket.request.attempt:
            account.repaired += 1
            del self._open[ticket.digest]
            repair = replace(ticket.request, attempt=1, complaint=outcome.fault)
            self._add(ticket.agent, repair, ticket.places, question=ticket.question, raw=outcome.raw)
            return
        if outcome.answer is None and not outcome.raw:
            outcome = replace(outcome, raw=ticket.raw)  # the repair got no answer at all
        account.invalid += outcome.answer is None
        if ticket.agent.shared and outcome.answer is not None:
            # Another shard may have been answered otherwise: from here on all go by the same answer.
            outcome = judge(ticket.agent, self._cache.agree(ticket.question, response))
            self._shared[ticket.question] = outcome
            if len(self._shared) > _MAX_SHARED:
                self._shared.popitem(last=False)
        self._settle(ticket, outcome)

    def _settle(self, ticket: _Ticket, outcome: Outcome[Any]) -> None:
        del self._open[ticket.digest]
        for seat, number in ticket.places:
            seat.outcomes[number] = outcome
            if seat.complete:
                self._advance(seat)


class _Feed:
    """What is ready, as the teacher takes it; `sent` holds what it has not answered yet, by number."""

    def __init__(self, take: Callable[[], _Ticket | None]) -> None:
        self.sent: dict[int, _Ticket] = {}
        self._count = 0
        self._next_ticket = take

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        if (ticket := self._next_ticket()) is None:
            raise StopIteration
        self.sent[self._count] = ticket
        self._count += 1
        return ticket.request
