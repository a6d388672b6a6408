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
from models.knowledge.teachers.chat_messages import ChatPrompt, extract_json_object, make_chat_prompt
from models.knowledge.teachers.schema_trial import SCHEMA_TRIAL, check_schema_trial
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse, TokenPrice

_REFUSED = {401: "the key was refused", 403: "the key may not use this model", 404: "no such model or path"}
"""Answers that all further requests would get too."""
_REMEDY = (
    "Set teacher.structured_output to what the server knows: response_format (the standard), "
    "structured_outputs (vLLM), or none (answers are then only checked afterwards, and more are lost)."
)
_MAX_ERROR_CHARS = 300
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
"""Between looks whether a lost server is back."""


class OpenAICompatibleTeacher:
    """Asks a chat-completions server, several requests at once.

    The client library retries timeouts, lost connections and HTTP 408, 409, 429 and 5xx with backoff and
    jitter, and waits as long as the server's `Retry-After` says. A server that answered before and cannot be
    reached any more is waited for, each request until its deadline.
    """

    def __init__(self, config: OpenAITeacherConfig) -> None:
        self._config = config
        self._api_key = _read_api_key(config.api_key_env)
        self._is_tried = config.structured_output == "none"
        self._was_reached = False
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
            client = self._make_openai_client()
            while done_tasks := runner.run(self._await_next_answers(client, request_queue, pending_tasks)):
                # What was answered is handed on before a fault of another request ends the run.
                for task in sorted(done_tasks, key=lambda task: task.exception() is not None):
                    yield task.result()
            runner.run(client.close())

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
        if not self._is_tried:
            check_schema_trial(await self._request_answer(client, 0, SCHEMA_TRIAL), remedy=_REMEDY)
            self._is_tried = True

    async def _request_answer(self, client: AsyncOpenAI, number: int, chat: ChatPrompt) -> TeacherResponse:
        start = time.perf_counter()
        try:
            completion = await self._await_completion(client, chat)
        except (APITimeoutError, TimeoutError):
            fault = "the teacher took too long"
        except APIStatusError as error:
            self._was_reached = True
            fault = self._explain_http_status(error)
        except UserError:  # a ValueError, too: a lost server must stop the run, not make its items invalid
            raise
        except (APIError, ValueError) as error:
            fault = f"the teacher's answer is no chat completion: {error}"[:_MAX_ERROR_CHARS]
        else:
            self._was_reached = True
            return self._read_chat_completion(number, completion, time.perf_counter() - start)
        return TeacherResponse(number, "", seconds=time.perf_counter() - start, error=fault)

    async def _await_completion(self, client: AsyncOpenAI, chat: ChatPrompt) -> Any:
        """The server's answer; a lost server is waited for until the deadline.

        Raises:
            UserError: the server cannot be reached.
            TimeoutError: the deadline came while the server was at work.
        """
        lost_error: APIConnectionError | None = None
        pause_s = _FIRST_PAUSE_S
        try:
            async with asyncio.timeout(self._config.deadline_s):
                while True:
                    try:
                        return await client.chat.completions.create(**self._build_request_arguments(chat))
                    except APIConnectionError as error:
                        if isinstance(error, APITimeoutError) and not isinstance(
                            error.__cause__, ConnectTimeout
                        ):
                            raise
                        lost_error = error
                    if not self._was_reached:
                        raise self._explain_lost_server(lost_error)
                    # Jitter: else all requests come back at once.
                    await _pause_for(pause_s * random.uniform(0.5, 1))  # noqa: S311
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    lost_error = None
        except TimeoutError:
            if lost_error:
                raise self._explain_lost_server(lost_error) from lost_error
            raise

    def _explain_lost_server(self, error: APIConnectionError) -> UserError:
        url = self._config.base_url
        if not self._was_reached:
            return UserError(f"teacher.base_url: cannot reach {url} ({error}); is it up?")
        return UserError(
            f"teacher.base_url: {url} could not be reached any more for a request's deadline_s of "
            f"{self._config.deadline_s:g} s ({error}). All answers so far are cached; run again when it is "
            "up."
        )

    def _read_chat_completion(self, number: int, completion: Any, seconds: float) -> TeacherResponse:
        if not getattr(completion, "choices", None):  # gateways report faults of their own with HTTP 200
            return TeacherResponse(
                number, "", seconds=seconds, error="the teacher's answer is no chat completion"
            )
        choice, usage = completion.choices[0], completion.usage
        answer_text = choice.message.content or ""
        return TeacherResponse(
            number,
            extract_json_object(answer_text) if self._config.structured_output == "none" else answer_text,
            tokens_in=usage.prompt_tokens if usage else 0,
            tokens_out=usage.completion_tokens if usage else 0,
            seconds=seconds,
            truncated=choice.finish_reason == "length",
        )

    def _explain_http_status(self, error: APIStatusError) -> str:
        """What is wrong with one request.

        Raises:
            UserError: the same would be wrong with all.
        """
        if error.status_code in _REFUSED:
            raise UserError(
                f"teacher: {self._config.base_url} answered HTTP {error.status_code} for model "
                f"'{self._config.model}': {_REFUSED[error.status_code]}; see teacher.model and "
                "teacher.api_key_env"
            ) from error
        return f"HTTP {error.status_code} from the teacher: {error.message}"[:_MAX_ERROR_CHARS]

    def _build_request_arguments(self, chat: ChatPrompt) -> dict[str, Any]:
        # As a field that the client does not know: else it walks through the whole schema for every request.
        schema_fields: dict[str, Any] = {}
        if self._config.structured_output == "response_format":
            schema = {"name": chat.name, "schema": chat.schema, "strict": True}
            schema_fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self._config.structured_output == "structured_outputs":
            schema_fields["structured_outputs"] = {"json": chat.schema}
        return {
            "model": self._config.model,
            "messages": chat.messages,
            "temperature": self._config.temperature,
            "seed": chat.derive_sampling_seed(self._config.seed),
            "max_tokens": chat.limit_answer_tokens(self._config.max_tokens),
            "extra_body": self._config.extra_body | schema_fields,
        }

    def _make_openai_client(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=self._config.base_url,
            api_key=self._api_key,
            timeout=self._config.timeout_s,
            max_retries=self._config.max_retries,
        )


async def _pause_for(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _read_api_key(variable: str | None) -> str:
    """The key in the environment variable. Without one a placeholder: the client insists on a key.

    Raises:
        UserError: the variable is not set.
    """
    if variable is None:
        return "none"
    api_key = os.environ.get(variable, "")
    if not api_key:
        raise UserError(f"teacher.api_key_env: the environment variable {variable} is not set")
    return api_key
