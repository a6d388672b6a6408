"""A teacher behind any OpenAI-compatible server: a vLLM deployment, a gateway, a hosted model."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

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


class OpenAICompatibleTeacher:
    """Asks a chat-completions server, several requests at once.

    The client library retries timeouts, lost connections and HTTP 408, 409, 429 and 5xx with backoff and jitter, and
    waits as long as the server's `Retry-After` says.
    """

    def __init__(self, config: OpenAITeacherConfig) -> None:
        self._config = config
        self._api_key = _read_key(config.api_key_env)
        self._tried = config.structured_output == "none"
        self.name = f"openai-{config.model}"
        fields = {"temperature", "seed", "max_tokens", "structured_output", "extra_body"}
        self.sampling: dict[str, Any] = config.model_dump(include=fields)
        self.price = Price(config.price_per_million_input_tokens, config.price_per_million_output_tokens)

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Yields each answer as it comes; at most `concurrency` requests are in flight.

        Raises:
            UserError: the server cannot be reached, refuses every request, or ignores the schema.
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
            async with asyncio.timeout(self._config.deadline_s):
                completion = await client.chat.completions.create(**self._arguments(chat))
        except (APITimeoutError, TimeoutError):
            fault = "the teacher took too long"
        except APIConnectionError as error:
            raise UserError(f"teacher.base_url: cannot reach {self._config.base_url} ({error}); is it up?") from error
        except APIStatusError as error:
            fault = self._explain(error)
        except (APIError, ValueError) as error:
            fault = f"the teacher's answer is no chat completion: {error}"[:_MAX_ERROR_CHARS]
        else:
            return self._read(number, completion, time.perf_counter() - start)
        return Response(number, "", seconds=time.perf_counter() - start, error=fault)

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
