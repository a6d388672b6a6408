"""Runs many conversations at once and puts their questions to one teacher.

Start reading at `run_conversations`. A question becomes a pending request: it is looked up in the cache, else
sent, its answer is parsed, and it is asked once more when the answer was not valid. A bounded number of
conversations is open, and the teacher gets whatever any of them asks. So a slow answer holds up its own
product only, and memory does not grow with the catalogue.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic

from models.knowledge.agents.agent_roles import Agent
from models.knowledge.agents.answer_parsing import parse_teacher_answer
from models.knowledge.agents.conversation import Conversation, Outcome, Question, Result
from models.knowledge.agents.prompt_files import read_prompt_file
from models.knowledge.cache.answer_cache import AnswerCache
from models.knowledge.costs.budget import Budget, BudgetReachedError
from models.knowledge.costs.cost_ledger import CostLedger
from models.knowledge.teachers.teacher import LiveTeacher, Teacher, TeacherRequest, TeacherResponse

_MAX_SHARED: Final = 1024
"""Answers that serve many products and are kept in memory."""


@dataclass
class _OpenConversation(Generic[Result]):
    """A conversation and the outcomes that it waits for."""

    conversation: Conversation[Result]
    outcomes: list[Outcome[Any] | None] = field(default_factory=list)


_WaitingPlace = tuple[_OpenConversation[Any], int]
"""Who waits for an answer: a conversation, and the number of its question."""


@dataclass
class _PendingRequest:
    """One request on its way, and all who wait for it."""

    agent: Agent[Any]
    request: TeacherRequest
    digest: str
    question_digest: str
    """Digest of the first attempt, which a repair shares."""
    waiting_places: list[_WaitingPlace]
    first_answer: str = ""
    """What came first, where this is its repair."""


class QuestionScheduler:
    """Answers questions from the cache, else by the teacher, within the budget."""

    def __init__(
        self, teacher: Teacher, cache: AnswerCache, ledger: CostLedger, budget: Budget, *, max_open: int = 512
    ) -> None:
        """Prepares a run in which at most `max_open` conversations are open at once."""
        self._teacher = teacher
        self._cache = cache
        self._ledger = ledger
        self._budget = budget
        self._max_open = max_open
        self._num_open = 0
        self._not_looked_up: list[_PendingRequest] = []
        self._ready: deque[_PendingRequest] = deque()
        """Not in the cache and not sent yet."""
        self._pending: dict[str, _PendingRequest] = {}
        """All requests on their way, by digest: equal ones of several conversations are one."""
        self._results: deque[Any] = deque()
        self._shared_outcomes: OrderedDict[str, Outcome[Any]] = OrderedDict()
        self._reached_limit = ""

    def run_conversations(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """Runs all conversations; yields what each returns, in the order in which they end.

        Raises:
            BudgetReachedError: no more may be asked; what was in flight has been answered and cached.
            UserError: the teacher cannot go on.
        """
        waiting_conversations = iter(conversations)
        while self._open_conversations(waiting_conversations) or self._results or self._ready:
            yield from self._hand_out_results()
            feed = _RequestFeed(self._take_next_request)
            for response in self._ask_teacher(feed):
                self._receive_response(feed.sent.pop(response.number), response)
                self._look_up_requests()
                yield from self._hand_out_results()
                self._open_conversations(waiting_conversations)
            assert not feed.sent, "the teacher left a request unanswered"
            if self._reached_limit:
                raise BudgetReachedError(self._reached_limit)
        assert not self._pending, "a question was left without an answer"

    def _open_conversations(self, waiting_conversations: Iterator[Conversation[Result]]) -> bool:
        """Opens as many conversations as there is room for; False when none was left."""
        is_any_opened = False
        for _ in range(self._max_open - self._num_open):
            if (conversation := next(waiting_conversations, None)) is None:
                break
            is_any_opened = True
            self._num_open += 1
            self._advance_conversation(_OpenConversation(conversation))
        self._look_up_requests()
        return is_any_opened

    def _hand_out_results(self) -> Iterator[Any]:
        while self._results:
            yield self._results.popleft()

    def _advance_conversation(self, opened: _OpenConversation[Any]) -> None:
        """Tells a conversation what it waited for and takes its next questions."""
        outcomes = tuple(outcome for outcome in opened.outcomes if outcome)
        try:
            questions = opened.conversation.send(outcomes) if outcomes else next(opened.conversation)
        except StopIteration as end:
            self._num_open -= 1
            self._results.append(end.value)
            return
        opened.outcomes = [None] * len(questions)
        for number, question in enumerate(questions):
            self._add_question(question, (opened, number))

    def _add_question(self, question: Question[Any], waiting_place: _WaitingPlace) -> None:
        agent = question.agent
        prompt_version = read_prompt_file(agent.name).version
        request = TeacherRequest(agent.name, question.agent_input, agent.answer_type, prompt_version)
        digest = self._cache.digest_request(request)
        self._add_request(_PendingRequest(agent, request, digest, digest, [waiting_place]))

    def _add_request(self, pending: _PendingRequest) -> None:
        if (same_request := self._pending.get(pending.digest)) is not None:
            same_request.waiting_places += pending.waiting_places
        else:
            self._pending[pending.digest] = pending
            self._not_looked_up.append(pending)

    def _look_up_requests(self) -> None:
        """Answers from the cache what it knows, over and over: each answer may lead to further questions."""
        while self._not_looked_up:
            new_requests, self._not_looked_up = self._not_looked_up, []
            cached_responses = self._cache.load_cached_responses(
                [
                    pending.digest
                    for pending in new_requests
                    if pending.question_digest not in self._shared_outcomes
                ]
            )
            for pending in new_requests:
                if shared_outcome := self._shared_outcomes.get(pending.question_digest):
                    self._settle_request(pending, shared_outcome)
                    continue
                agreed_response = (
                    self._cache.load_agreed_response(pending.question_digest)
                    if pending.agent.is_shared
                    else None
                )
                is_first = not pending.request.attempt
                account = self._ledger.accounts[pending.agent.name]
                account.requests += is_first
                if response := agreed_response or cached_responses.get(pending.digest):
                    account.cached += is_first
                    self._use_response(pending, response)
                else:
                    self._ready.append(pending)

    def _ask_teacher(self, feed: "_RequestFeed") -> Iterator[TeacherResponse]:
        if not self._ready:
            return iter(())
        if isinstance(self._teacher, LiveTeacher):
            return self._teacher.answer_live(feed)
        return self._teacher.answer_batch(list(feed))

    def _take_next_request(self) -> _PendingRequest | None:
        """The next request to send; none when nothing is ready or the budget is reached."""
        if not self._ready or self._reached_limit:
            return None
        self._reached_limit = self._budget.find_reached_limit()
        if self._reached_limit:
            return None
        pending = self._ready.popleft()
        self._ledger.count_request(pending.agent.name)
        return pending

    def _receive_response(self, pending: _PendingRequest, response: TeacherResponse) -> None:
        # Paid before kept: a kill in between may count an answer twice, but never forgets what it cost.
        self._ledger.charge_response(pending.agent.name, response)
        if not response.error:
            self._cache.store_response(pending.digest, response)
        self._use_response(pending, response)

    def _use_response(self, pending: _PendingRequest, response: TeacherResponse) -> None:
        """Settles a request by its response, or asks for the one repair."""
        outcome = parse_teacher_answer(pending.agent, response)
        account = self._ledger.accounts[pending.agent.name]
        if outcome.answer is None and outcome.is_answered and not pending.request.attempt:
            account.repaired += 1
            self._ask_for_repair(pending, outcome)
            return
        if outcome.answer is None and not outcome.is_answered and pending.first_answer:
            outcome = replace(outcome, raw_answer=pending.first_answer)  # the repair got no answer at all
        account.invalid += outcome.answer is None
        if pending.agent.is_shared and outcome.answer is not None:
            # Another shard may have been answered otherwise: from here on all go by the same answer.
            agreed_response = self._cache.agree_on_response(pending.question_digest, response)
            outcome = parse_teacher_answer(pending.agent, agreed_response)
            self._shared_outcomes[pending.question_digest] = outcome
            if len(self._shared_outcomes) > _MAX_SHARED:
                self._shared_outcomes.popitem(last=False)
        self._settle_request(pending, outcome)

    def _ask_for_repair(self, pending: _PendingRequest, outcome: Outcome[Any]) -> None:
        del self._pending[pending.digest]
        repair_request = replace(pending.request, attempt=1, complaint=outcome.fault)
        digest = self._cache.digest_request(repair_request)
        self._add_request(
            replace(pending, request=repair_request, digest=digest, first_answer=outcome.raw_answer)
        )

    def _settle_request(self, pending: _PendingRequest, outcome: Outcome[Any]) -> None:
        del self._pending[pending.digest]
        for opened, number in pending.waiting_places:
            opened.outcomes[number] = outcome
            if all(other is not None for other in opened.outcomes):
                self._advance_conversation(opened)


class _RequestFeed:
    """What is ready, as the teacher takes it; `sent` holds what it has not answered yet, by number."""

    def __init__(self, take_request: Callable[[], _PendingRequest | None]) -> None:
        self.sent: dict[int, _PendingRequest] = {}
        self._num_sent = 0
        self._take_request = take_request

    def __iter__(self) -> Iterator[TeacherRequest]:
        return self

    def __next__(self) -> TeacherRequest:
        if (pending := self._take_request()) is None:
            raise StopIteration
        self.sent[self._num_sent] = pending
        self._num_sent += 1
        return pending.request
