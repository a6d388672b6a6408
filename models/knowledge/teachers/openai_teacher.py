"""A teacher behind any OpenAI-compatible server: a vLLM deployment, a gateway, a hosted model."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from openai import AsyncOpenAI

from contracts.progress import report_summary
from models.knowledge.config import OpenAITeacherConfig
from models.knowledge.teachers.chat_completion import ChatAnswer
from models.knowledge.teachers.chat_messages import ChatPrompt, make_chat_prompt
from models.knowledge.teachers.chat_server import ChatServer
from models.knowledge.teachers.schema_trial import SCHEMA_TRIAL, check_schema_trial
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse, TokenPrice

_MAX_REFUSED_IN_A_ROW: Final = 20
"""Requests without an answer, none with one between them: then the server is looked at, not the products."""
_HOPELESS_AT_FIRST: Final = (401, 402, 404)
"""What is told of the account or the model, not of a product, where nothing was answered yet."""
_OF_THE_ACCOUNT: Final = (401, 402)
"""What no product is at fault for: a key that ended, or credit that ran out."""
_WITHOUT_USAGE: Final = (
    "The teacher's server gave an answer without its usage, or a part of it. What it does not tell counts as",
    "0, and a budget of tokens or money does not see it; budget.max_requests and max_hours do.",
)
_REMEDY = (
    "Set teacher.structured_output to what the server knows: response_format (the standard), "
    "structured_outputs (vLLM), or none (answers are then only checked afterwards, and more are lost)."
)


class OpenAICompatibleTeacher:
    """Asks a chat-completions server, several requests at once.

    Timeouts, lost connections, HTTP 408, 409, 425, 429 and 5xx, and what is no chat completion are tried
    again with backoff and jitter, or after as long as the server's `Retry-After` says. A server that answered
    before and cannot be reached any more is waited for, each request until its deadline.

    What fails then costs its own request. Only a server that answers nobody ends the run: the first requests
    get nothing, or many in a row and a harmless one after them.
    """

    def __init__(self, config: OpenAITeacherConfig) -> None:
        self._config = config
        self._server = ChatServer(config)
        self._is_tried = config.structured_output == "none"
        self._num_answered = 0
        self._is_usage_told = False
        self._num_refused_in_a_row = 0
        self.name = f"openai-{config.model}"
        sampling_fields = {"temperature", "seed", "max_tokens", "structured_output", "extra_body"}
        self.sampling: dict[str, Any] = config.model_dump(include=sampling_fields)
        self.price = TokenPrice(config.price_per_million_input_tokens, config.price_per_million_output_tokens)

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Yields each answer as it comes; at most `concurrency` requests are in flight.

        Raises:
            UserError: the server cannot be reached, or not any more until the deadline of a request; it
                refuses every request, or ignores the schema.
        """
        return self.answer_live(iter(requests))

    def answer_live(self, feed: Iterator[TeacherRequest]) -> Iterator[TeacherResponse]:
        """The same for a live feed."""
        request_queue = enumerate(feed)
        pending_tasks: set[asyncio.Task[TeacherResponse]] = set()
        with asyncio.Runner() as runner:  # cancels what is in flight when nobody wants the rest
            client = self._server.make_client()
            try:
                while done_tasks := runner.run(
                    self._await_next_answers(client, request_queue, pending_tasks)
                ):
                    # What was answered is handed on before a fault of another request ends the run.
                    for task in sorted(done_tasks, key=lambda task: task.exception() is not None):
                        yield task.result()
            finally:
                # Within the loop: connections that outlive it complain on the screen.
                runner.run(_give_up(client, pending_tasks))

    async def _await_next_answers(
        self,
        client: AsyncOpenAI,
        queue: Iterator[tuple[int, TeacherRequest]],
        pending: set[asyncio.Task[TeacherResponse]],
    ) -> set[asyncio.Task[TeacherResponse]]:
        """Starts what fits and waits for at least one answer; empty when all are answered."""
        for number, request in islice(queue, self._config.concurrency - len(pending)):
            await self._try_schema_once(client)
            pending.add(asyncio.create_task(self._request_answer(client, number, make_chat_prompt(request))))
        if not pending:
            return set()
        done_tasks, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        pending -= done_tasks
        return done_tasks

    async def _try_schema_once(self, client: AsyncOpenAI) -> None:
        if self._is_tried:
            return
        answer = await self._server.ask_chat(client, SCHEMA_TRIAL)
        if answer.error and answer.status >= 400:
            raise self._server.explain_refusal(answer.error, answer.status)
        trial_response = TeacherResponse(0, answer.text, truncated=answer.is_truncated, error=answer.error)
        check_schema_trial(trial_response, remedy=_REMEDY)
        self._is_tried = True

    async def _request_answer(self, client: AsyncOpenAI, number: int, chat: ChatPrompt) -> TeacherResponse:
        start = time.perf_counter()
        answer = await self._server.ask_chat(client, chat)
        if answer.error:
            await self._suspect_server(client, answer.error, answer.status)
        else:
            self._note_answer(answer)
        return TeacherResponse(
            number,
            answer.text,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            seconds=time.perf_counter() - start,
            truncated=answer.is_truncated,
            error=answer.error,
            mean_logprob=answer.mean_logprob,
        )

    def _note_answer(self, answer: ChatAnswer) -> None:
        self._num_answered += 1
        self._num_refused_in_a_row = 0
        if not (answer.tokens_in and answer.tokens_out) and not self._is_usage_told:
            self._is_usage_told = True
            report_summary(_WITHOUT_USAGE)

    async def _suspect_server(self, client: AsyncOpenAI, error: str, status: int) -> None:
        """Tells a server that refuses one product from one that refuses everything.

        Raises:
            UserError: it refuses everything.
        """
        if status in _HOPELESS_AT_FIRST and not self._num_answered:
            raise self._server.explain_refusal(error, status)
        self._num_refused_in_a_row += 1
        if self._num_refused_in_a_row < _MAX_REFUSED_IN_A_ROW and status not in _OF_THE_ACCOUNT:
            return
        self._num_refused_in_a_row = 0
        # Products that stand side by side may all be refused, knives say: then a harmless chat is answered.
        if not self._num_answered or not await self._server.is_answering(client):
            raise self._server.explain_refusal(error, status)


async def _give_up(client: AsyncOpenAI, pending_tasks: set[asyncio.Task[TeacherResponse]]) -> None:
    for task in pending_tasks:
        task.cancel()
    await asyncio.gather(*pending_tasks, return_exceptions=True)
    await client.close()
