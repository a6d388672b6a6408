"""A teacher behind any OpenAI-compatible server: a vLLM deployment, a gateway, a hosted model."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI

from contracts.errors import UserError
from models.knowledge.agents.prompts import render
from models.knowledge.config import OpenAITeacherConfig
from models.knowledge.schema import json_schema
from models.knowledge.teachers.base import Price, Request, Response

_REFUSED = {401: "the key was refused", 403: "the key may not use this model", 404: "no such model or path"}
"""Answers that all further requests would get too."""
_MAX_ERROR_CHARS = 300


class OpenAICompatibleTeacher:
    """Asks a chat-completions server, several requests at once.

    The client library retries timeouts, lost connections and HTTP 408, 409, 429 and 5xx with backoff and jitter.
    """

    def __init__(self, config: OpenAITeacherConfig) -> None:
        self._config = config
        self._api_key = _read_key(config.api_key_env)
        self.name = f"openai-{config.model}"
        self.sampling: dict[str, Any] = config.model_dump(include={"temperature", "seed", "max_tokens"})
        self.price = Price(config.price_per_million_input_tokens, config.price_per_million_output_tokens)

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Yields each answer as it comes; at most `concurrency` requests are in flight.

        Raises:
            UserError: the server cannot be reached or refuses every request.
        """
        queue = iter(enumerate(requests))
        pending: set[asyncio.Task[Response]] = set()
        with asyncio.Runner() as runner:
            client = self._client()
            while True:
                done = runner.run(self._advance(client, queue, pending))
                if not done:
                    break
                yield from (task.result() for task in done)
            runner.run(client.close())

    async def _advance(
        self, client: AsyncOpenAI, queue: Iterator[tuple[int, Request]], pending: set[asyncio.Task[Response]]
    ) -> set[asyncio.Task[Response]]:
        """Starts what fits and waits for at least one answer; empty when all are answered."""
        for number, request in islice(queue, self._config.concurrency - len(pending)):
            pending.add(asyncio.create_task(self._ask(client, number, request)))
        if not pending:
            return set()
        done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        pending -= done
        return done

    def _client(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=self._config.base_url,
            api_key=self._api_key,
            timeout=self._config.timeout_s,
            max_retries=self._config.max_retries,
        )

    async def _ask(self, client: AsyncOpenAI, number: int, request: Request) -> Response:
        start = time.perf_counter()
        try:
            completion = await client.chat.completions.create(**self._arguments(request))
        except APITimeoutError:
            return Response(number, "", seconds=time.perf_counter() - start, error="the teacher took too long")
        except APIConnectionError as error:
            raise UserError(f"teacher.base_url: cannot reach {self._config.base_url} ({error}); is it up?") from error
        except APIStatusError as error:
            if error.status_code in _REFUSED:
                raise UserError(
                    f"teacher: {self._config.base_url} answered HTTP {error.status_code} for model "
                    f"'{self._config.model}': {_REFUSED[error.status_code]}; see teacher.model and teacher.api_key_env"
                ) from error
            fault = f"HTTP {error.status_code} from the teacher: {error.message}"[:_MAX_ERROR_CHARS]
            return Response(number, "", seconds=time.perf_counter() - start, error=fault)
        choice, usage = completion.choices[0], completion.usage
        return Response(
            number,
            choice.message.content or "",
            tokens_in=usage.prompt_tokens if usage else 0,
            tokens_out=usage.completion_tokens if usage else 0,
            seconds=time.perf_counter() - start,
            truncated=choice.finish_reason == "length",
        )

    def _arguments(self, request: Request) -> dict[str, Any]:
        messages = render(request.agent, request.given, request.answer)
        if request.attempt:
            fault = f"Your last answer was not valid ({request.complaint}). Answer again, with valid JSON only."
            messages.append({"role": "user", "content": fault})
        schema = {"name": request.agent, "schema": json_schema(request.answer), "strict": True}
        return {
            "model": self._config.model,
            "messages": messages,
            "temperature": self._config.temperature,
            "seed": self._config.seed,
            "max_tokens": self._config.max_tokens * (1 + request.attempt),
            "response_format": {"type": "json_schema", "json_schema": schema},
        }


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
