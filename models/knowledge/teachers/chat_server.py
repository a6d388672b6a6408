"""A chat-completions server as one asks it: attempts, waits, and what to do when it is gone."""

import asyncio
import math
import os
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, AsyncOpenAI

from contracts.errors import UserError
from models.knowledge.config import OpenAITeacherConfig
from models.knowledge.distillation.product_text import escape_control_chars
from models.knowledge.teachers.chat_completion import ChatAnswer, read_chat_completion
from models.knowledge.teachers.chat_messages import ChatPrompt
from models.knowledge.teachers.schema_trial import SCHEMA_TRIAL

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
"""Between looks whether a lost server is back."""
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 8.0
"""Between attempts, where the server names no time."""
_UNREACHED: Final = ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol")
"""Names of the transport's errors where no connection was made. By name, since the client library changed its
transport before."""
_MAX_CUT_OFFS: Final = 2
"""Rounds of attempts with a connection that was cut off. Then it is asked whether the server is well."""
TOO_LONG: Final = "the teacher took too long"


_WORDS_OF_STATUS: Final = {
    401: "the key was refused",
    402: "the account has no credit",
    403: "the key may not use this model",
    404: "no such model or path",
}
"""What a status means where every request gets it."""


class _LostError(Exception):
    """No answer came, since the connection failed in every attempt."""

    def __init__(self, cause: APIConnectionError) -> None:
        self.is_unreached = type(cause.__cause__).__name__ in _UNREACHED
        super().__init__(str(cause.__cause__ or cause))


class ChatServer:
    """Asks one server; may be used for many chats at once within one event loop."""

    def __init__(self, config: OpenAITeacherConfig) -> None:
        """Reads the key.

        Raises:
            UserError: its variable is not set, or holds no key.
        """
        self._config = config
        self._api_key = _read_api_key(config.api_key_env)
        self.num_answered = 0
        """Responses of any kind."""

    def make_client(self) -> AsyncOpenAI:
        """A client for one event loop; who makes it closes it."""
        # The attempts are ours: the library knows no error inside of HTTP 200 and waits 60 s at most.
        return AsyncOpenAI(
            base_url=self._config.base_url,
            api_key=self._api_key,
            timeout=self._config.timeout_s,
            max_retries=0,
        )

    async def ask_chat(self, client: AsyncOpenAI, chat: ChatPrompt) -> ChatAnswer:
        """The answer, or the fault of the last attempt; a lost server is waited for until the deadline.

        Raises:
            UserError: the server cannot be reached.
        """
        lost_error: _LostError | None = None
        try:
            async with asyncio.timeout(self._config.deadline_s):
                num_answered, num_cut_offs, pause_s = self.num_answered, 0, _FIRST_PAUSE_S
                give_up_at = asyncio.get_running_loop().time() + self._config.deadline_s
                while True:
                    try:
                        return await self._attempt_chat(client, chat, give_up_at)
                    except _LostError as error:
                        lost_error = error
                    if not self.num_answered:
                        raise self._explain_lost_server(lost_error)
                    num_cut_offs += not lost_error.is_unreached
                    # Who answers others is not lost: then it is this chat that breaks the connection.
                    if num_cut_offs >= _MAX_CUT_OFFS and (
                        self.num_answered > num_answered or await self.is_answering(client)
                    ):
                        return ChatAnswer(error=f"the connection was cut off each time: {lost_error}")
                    # Jitter: else all requests come back at once.
                    await _pause_for(pause_s * random.uniform(0.5, 1))  # noqa: S311
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    lost_error = None
        except TimeoutError:
            if lost_error:
                raise self._explain_lost_server(lost_error) from lost_error
            return ChatAnswer(error=TOO_LONG)

    async def is_answering(self, client: AsyncOpenAI) -> bool:
        """Says whether the server answers a harmless chat."""
        give_up_at = asyncio.get_running_loop().time() + self._config.deadline_s
        try:
            return not (await self._attempt_chat(client, SCHEMA_TRIAL, give_up_at)).error
        except _LostError:
            return False

    def explain_refusal(self, error: str, status: int) -> UserError:
        """The error where the server refuses whatever it is asked."""
        words = _WORDS_OF_STATUS.get(status)
        told_words = f": {words}" if words else ""
        return UserError(
            f"teacher: {self._config.base_url} refuses every request for model '{self._config.model}'"
            f"{told_words}. It says: {escape_control_chars(error)}. See teacher.model, teacher.base_url and "
            "teacher.api_key_env. All answers so far are cached; run again when this is mended."
        )

    async def _attempt_chat(self, client: AsyncOpenAI, chat: ChatPrompt, give_up_at: float) -> ChatAnswer:
        """One round of attempts.

        Raises:
            _LostError: the last one failed for want of a connection.
        """
        for num_failed in range(self._config.max_retries + 1):
            is_last = num_failed == self._config.max_retries
            # Full jitter over the upper half, as for a lost server.
            wait_s = min(_FIRST_BACKOFF_S * 2**num_failed, _LONGEST_BACKOFF_S) * random.uniform(0.5, 1)  # noqa: S311
            try:
                answer, headers = await self._send_chat(client, chat)
            except APIConnectionError as error:
                lost_error = _LostError(error)
                if is_last and isinstance(error, APITimeoutError) and not lost_error.is_unreached:
                    return ChatAnswer(error=TOO_LONG)
                if is_last:
                    raise lost_error from error
            else:
                if is_last or not answer.may_pass:
                    return answer
                if (told_wait_s := read_retry_after(headers, time.time())) is not None:
                    wait_s = told_wait_s
                if asyncio.get_running_loop().time() + wait_s > give_up_at:
                    told_wait = f"it asks to wait {wait_s:.0f} s, past deadline_s: {answer.error}"
                    return answer._replace(error=f"{TOO_LONG}, {told_wait}")
            await _pause_for(wait_s)
        raise AssertionError("the last attempt returns or raises")

    async def _send_chat(self, client: AsyncOpenAI, chat: ChatPrompt) -> tuple[ChatAnswer, Mapping[str, str]]:
        """One attempt: what came, and the headers of the response.

        Raises:
            APIConnectionError: nothing came, or not all.
        """
        try:
            raw_response = await client.chat.completions.with_raw_response.create(
                **self._build_request_arguments(chat)
            )
            response: Any = raw_response.http_response
        except APIStatusError as error:
            response = error.response
        except APIConnectionError:
            raise
        except (APIError, ValueError) as error:  # the request cannot be put into words
            return ChatAnswer(error=f"the request could not be sent: {error}"), {}
        self.num_answered += 1
        if response.request.method != "POST":  # a redirect that forgets the question, as 301 does
            fault = f"the server redirects to {response.url}: set teacher.base_url to where it is"
            return ChatAnswer(error=fault, status=response.history[0].status_code), {}
        expected_keys = chat.schema.get("required", ())
        answer = read_chat_completion(
            response.content, status=response.status_code, expected_keys=expected_keys
        )
        return answer, response.headers

    def _explain_lost_server(self, error: _LostError) -> UserError:
        url = self._config.base_url
        if not self.num_answered:
            return UserError(f"teacher.base_url: cannot reach {url} ({error}); is it up?")
        return UserError(
            f"teacher.base_url: {url} could not be reached any more for a request's deadline_s of "
            f"{self._config.deadline_s:g} s ({error}). All answers so far are cached; run again when it is "
            "up."
        )

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
            **({"logprobs": True} if self._config.confidence else {}),
        }


def read_retry_after(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that a server asks to wait, given as seconds or as a date; none where it does not say.

    Args:
        headers: Of the response, looked up in small letters.
        now_s: The time now, in seconds since 1970.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            seconds = float(text) * unit_s
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now_s
            except (ValueError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None


async def _pause_for(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _read_api_key(variable: str | None) -> str:
    """The key in the environment variable. Without one a placeholder: the client insists on a key.

    Raises:
        UserError: the variable is not set, or holds what no header can.
    """
    if variable is None:
        return "none"
    api_key = os.environ.get(variable, "").strip()
    if not api_key:
        raise UserError(f"teacher.api_key_env: the environment variable {variable} is not set")
    if not (api_key.isascii() and api_key.isprintable()):
        raise UserError(
            f"teacher.api_key_env: the environment variable {variable} holds line breaks or letters that no "
            "key has; set it to the key alone"
        )
    return api_key
