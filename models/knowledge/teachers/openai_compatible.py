"""A teacher behind any OpenAI-compatible server: a vLLM deployment, a gateway, a hosted model."""

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from httpx import ConnectTimeout
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, AsyncOpenAI

from contracts.errors import UserError
from models.knowledge.config import OpenAITeacherConfig
from models.knowledge.teachers.base import Price, Request, Response
from models.knowledge.teachers.canary import CANARY, check_canary
from models.knowledge.teachers.chat import Chat, bare_json, make_chat

_REFUSED = {401: "the key was refused", 403: "the key may not use this model", 404: "no such model or path"}
"""Answers that all further requests would get too."""
_REMEDY = (
    "Set teacher.structured_output to what the server knows: response_format (the standard), structured_outputs "
    "(vLLM), or none (answers are then only checked afterwards, and more of them are lost)."
)
_MAX_ERROR_CHARS = 300
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
"""Between looks whether a lost server is back."""


class OpenAICompatibleTeacher:
    """Asks a chat-completions server, several requests at once.

    The client library retries timeouts, lost connections and HTTP 408, 409, 429 and 5xx with backoff and jitter, and
    waits as long as the server's `Retry-After` says. A server that answered before and cannot be reached any more is
    waited for, each request until its deadline.
    """

    def __init__(self, config: OpenAITeacherConfig) -> None:
        self._config = config
        self._api_key = _read_key(config.api_key_env)
        self._tried = config.structured_output == "none"
        self._reached = False
        self.name = f"openai-{config.model}"
        fields = {"temperature", "seed", "max_tokens", "structured_output", "extra_body"}
        self.sampling: dict[str, Any] = config.model_dump(include=fields)
        self.price = Price(config.price_per_million_input_tokens, config.price_per_million_output_tokens)

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Yields each answer as it comes; at most `concurrency` requests are in flight.

        Raises:
            UserError: the server cannot be reached, or not any more until the deadline of a request; it refuses every
                request, or ignores the schema.
        """
        return self.answer_live(iter(requests))

    def answer_live(self, feed: Iterator[Request]) -> Iterator[Response]:
        """The same for a live feed."""
        queue = enumerate(feed)
        pending: set[asyncio.Task[Response]] = set()
        with asyncio.Runner() as runner:  # cancels what is in flight when nobody wants the rest
            client = self._client()
            while done := runner.run(self._advance(client, queue, pending)):
                # What was answered is handed on before a fault of another request ends the run.
                for task in sorted(done, key=lambda task: task.exception() is not None):
                    yield task.result()
            runner.run(client.close())

    async def _advance(
        self, client: AsyncOpenAI, queue: Iterator[tuple[int, Request]], pending: set[asyncio.Task[Response]]
    ) -> set[asyncio.Task[Response]]:
        """Starts what fits and waits for at least one answer; empty when all are answered."""
        for number, request in islice(queue, self._config.concurrency - len(pending)):
            await self._try_schema(client)
            pending.add(asyncio.create_task(self._ask(client, number, make_chat(request))))
        if not pending:
            return set()
        done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        pending -= done
        return done

    async def _try_schema(self, client: AsyncOpenAI) -> None:
        if not self._tried:
            check_canary(await self._ask(client, 0, CANARY), remedy=_REMEDY)
            self._tried = True

    async def _ask(self, client: AsyncOpenAI, number: int, chat: Chat) -> Response:
        start = time.perf_counter()
        try:
            completion = await self._complete(client, chat)
        except (APITimeoutError, TimeoutError):
            fault = "the teacher took too long"
        except APIStatusError as error:
            self._reached = True
            fault = self._explain(error)
        except (APIError, ValueError) as error:
            fault = f"the teacher's answer is no chat completion: {error}"[:_MAX_ERROR_CHARS]
        else:
            self._reached = True
            return self._read(number, completion, time.perf_counter() - start)
        return Response(number, "", seconds=time.perf_counter() - start, error=fault)

    async def _complete(self, client: AsyncOpenAI, chat: Chat) -> Any:
        """The server's answer; a lost server is waited for until the deadline.

        Raises:
            UserError: the server cannot be reached.
            TimeoutError: the deadline came while the server was at work.
        """
        lost: APIConnectionError | None = None
        pause_s = _FIRST_PAUSE_S
        try:
            async with asyncio.timeout(self._config.deadline_s):
                while True:
                    try:
                        return await client.chat.completions.create(**self._arguments(chat))
                    except APIConnectionError as error:
                        if isinstance(error, APITimeoutError) and not isinstance(error.__cause__, ConnectTimeout):
                            raise
                        lost = error
                    if not self._reached:
                        raise self._unreachable(lost)
                    # Jitter: else all requests come back at once.
                    await _pause(pause_s * random.uniform(0.5, 1))  # noqa: S311
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    lost = None
        except TimeoutError:
            if lost:
                raise self._unreachable(lost) from lost
            raise

    def _unreachable(self, error: APIConnectionError) -> UserError:
        url = self._config.base_url
        if not self._reached:
            return UserError(f"teacher.base_url: cannot reach {url} ({error}); is it up?")
        return UserError(
            f"teacher.base_url: {url} could not be reached any more for a request's deadline_s of "
            f"{self._config.deadline_s:g} s ({error}). All answers so far are cached; run again when it is up."
        )

    def _read(self, number: int, completion: Any, seconds: float) -> Response:
        if not getattr(completion, "choices", None):  # gateways report faults of their own with HTTP 200
            return Response(number, "", seconds=seconds, error="the teacher's answer is no chat completion")
        choice, usage = completion.choices[0], completion.usage
        text = choice.message.content or ""
        return Response(
            number,
            bare_json(text) if self._config.structured_output == "none" else text,
            tokens_in=usage.prompt_tokens if usage else 0,
            tokens_out=usage.completion_tokens if usage else 0,
            seconds=seconds,
            truncated=choice.finish_reason == "length",
        )

    def _explain(self, error: APIStatusError) -> str:
        """What is wrong with one request.

        Raises:
            UserError: the same would be wrong with all.
        """
        if error.status_code in _REFUSED:
            raise UserError(
                f"teacher: {self._config.base_url} answered HTTP {error.status_code} for model "
                f"'{self._config.model}': {_REFUSED[error.status_code]}; see teacher.model and teacher.api_key_env"
            ) from error
        return f"HTTP {error.status_code} from the teacher: {error.message}"[:_MAX_ERROR_CHARS]

    def _arguments(self, chat: Chat) -> dict[str, Any]:
        # As a field that the client does not know: else it walks through the whole schema for every request.
        constraint: dict[str, Any] = {}
        if self._config.structured_output == "response_format":
            schema = {"name": chat.name, "schema": chat.schema, "strict": True}
            constraint["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self._config.structured_output == "structured_outputs":
            constraint["structured_outputs"] = {"json": chat.schema}
        return {
            "model": self._config.model,
            "messages": chat.messages,
            "temperature": self._config.temperature,
            "seed": chat.seed(self._config.seed),
            "max_tokens": chat.max_tokens(self._config.max_tokens),
            "extra_body": self._config.extra_body | constraint,
        }

    def _client(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=self._config.base_url,
            api_key=self._api_key,
            timeout=self._config.timeout_s,
            max_retries=self._config.max_retries,
        )


async def _pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _read_key(variable: str | None) -> str:
    """The key in the environment variable; servers without keys get a placeholder, which the client insists on.

    Raises:
        UserError: the variable is not set.
    """
    if variable is None:
        return "none"
    key = os.environ.get(variable, "")
    if not key:
        raise UserError(f"teacher.api_key_env: the environment variable {variable} is not set")
    return key
