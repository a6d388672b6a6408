"""What a chat-completions server answered, read for what it means and not only as the standard has it.

Servers and the gateways before them answer in many ways: content as a list of parts or only in a field for
thoughts, an error inside of HTTP 200, a page of a proxy. Whatever comes is read as an answer or as a fault in
words; nothing raises.
"""

import json
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from models.knowledge.teachers.json_answers import extract_json_object

_MAX_FAULT_CHARS: Final = 300
_MAX_RAW_CHARS: Final = 4000
_NO_COMPLETION: Final = "the teacher's answer is no chat completion"
_PASSING_STATUSES: Final = (408, 409, 425, 429)
"""What may pass beside 5xx."""
_PASSING_WORDS: Final = ("rate_limit", "overload", "timeout", "unavailable", "server_error", "internal")
"""In error codes and types that are words."""
_CUT_OFF_REASONS: Final = ("length", "max_tokens", "model_length", "max_output_tokens")
_FILTER_REASONS: Final = (
    "content_filter",
    "safety",
    "recitation",
    "prohibited_content",
    "blocklist",
    "sensitive",
)
_THOUGHT_FIELDS: Final = ("reasoning_content", "reasoning")
_TEXT_PARTS: Final = (None, "text", "output_text")
"""Types of parts of a content that hold its text. Others hold thoughts or a refusal."""


class ChatAnswer(NamedTuple):
    """A server's answer to one chat."""

    text: str = ""
    """The JSON object that the model wrote, or as much as came."""
    tokens_in: int = 0
    tokens_out: int = 0
    is_truncated: bool = False
    error: str = ""
    """Why there is no answer."""
    status: int = 200
    """The HTTP status, or the one that an error inside of HTTP 200 names."""
    may_pass: bool = False
    """Another attempt may do better."""
    mean_logprob: float | None = None
    """Mean log-probability of its tokens, where the server says it."""


def read_chat_completion(
    body: bytes, *, status: int = 200, expected_keys: Collection[str] = ()
) -> ChatAnswer:
    """Reads the body of a response.

    Args:
        body: As it came, decompressed.
        status: HTTP status of the response.
        expected_keys: Keys that the answer must have.
    """
    raw_text = body[: 4 * _MAX_RAW_CHARS].decode("utf-8", "replace").strip("\ufeff \t\r\n")[:_MAX_RAW_CHARS]
    completion = _parse_body(body)
    if status >= 400:
        message = _find_error_message(completion) or raw_text or "without a word"
        return _make_fault(f"HTTP {status} from the teacher: {message}", raw_text, status)
    if completion is None:  # a page of a proxy, or a body that was cut off
        return _make_fault(f"{_NO_COMPLETION} but {raw_text or 'empty'}", raw_text, status, may_pass=True)
    answer = _read_completion_object(completion, raw_text, expected_keys)
    tokens_in, tokens_out = _count_tokens(completion.get("usage"))
    return answer._replace(tokens_in=tokens_in, tokens_out=tokens_out)


def _parse_body(body: bytes) -> dict[str, Any] | None:
    try:
        parsed_body = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(parsed_body, list) and len(parsed_body) == 1:  # so some gateways send their errors
        (parsed_body,) = parsed_body
    return parsed_body if isinstance(parsed_body, dict) else None


def _make_fault(error: str, raw_text: str, status: int, *, may_pass: bool | None = None) -> ChatAnswer:
    if may_pass is None:
        may_pass = status in _PASSING_STATUSES or status >= 500
    error = escape_surrogates(error)[:_MAX_FAULT_CHARS]
    return ChatAnswer(escape_surrogates(raw_text), error=error, status=status, may_pass=may_pass)


def escape_surrogates(text: str) -> str:
    """Halves of surrogate pairs in words: JSON can hold them, no file can."""
    return text.encode("utf-8", "backslashreplace").decode()


def _read_completion_object(
    completion: dict[str, Any], raw_text: str, expected_keys: Collection[str]
) -> ChatAnswer:
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    for place in (completion, choice):
        if isinstance(place, dict) and (place.get("error") or place.get("object") == "error"):
            return _read_error_object(place, raw_text)
    if not isinstance(choice, dict):
        words = _find_error_message(completion) or "it has no choices"
        return _make_fault(f"{_NO_COMPLETION}: {words}", raw_text, 200, may_pass=False)
    message, reason = choice.get("message"), str(choice.get("finish_reason") or "")
    if not isinstance(message, dict):
        told_reason = f" (finish_reason {reason})" if reason else ""
        return _make_fault(f"{_NO_COMPLETION}: a choice without message{told_reason}", raw_text, 200)
    answer = _read_message(message, reason.lower(), raw_text, expected_keys)
    return answer._replace(mean_logprob=_read_mean_logprob(choice.get("logprobs")))


def _read_mean_logprob(logprobs: object) -> float | None:
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list):
        return None
    values = [token.get("logprob") for token in tokens if isinstance(token, dict)]
    told_values = [value for value in values if isinstance(value, int | float)]
    return sum(told_values) / len(told_values) if told_values else None


def _read_message(
    message: dict[str, Any], reason: str, raw_text: str, expected_keys: Collection[str]
) -> ChatAnswer:
    text = _join_text_parts(message.get("content"))
    refusal = message.get("refusal") or _find_refusal_part(message.get("content"))
    if refusal and not text.strip():
        return _make_fault(f"the model refused: {refusal}", raw_text, 200)
    if reason in _FILTER_REASONS:
        return _make_fault(f"the server's content filter stopped the answer ({reason})", raw_text, 200)
    if not text.strip():
        # A server that parses thoughts apart takes an answer that is held to a schema for one.
        text = "\n".join(_join_text_parts(message.get(field)) for field in _THOUGHT_FIELDS)
    answer_text = extract_json_object(text, expected_keys)
    return ChatAnswer(escape_surrogates(answer_text), is_truncated=reason in _CUT_OFF_REASONS)


def _join_text_parts(content: object) -> str:
    """The text of a content: a string, a list of parts, or an object that a gateway has parsed already."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_read_text_part, content))
    if isinstance(content, dict):
        return _read_text_part(content) or json.dumps(content, ensure_ascii=False)
    return ""


def _read_text_part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") not in _TEXT_PARTS:
        return ""
    text = part.get("text")
    if isinstance(text, dict):
        text = text.get("value")
    return text if isinstance(text, str) else ""


def _find_refusal_part(content: object) -> str:
    parts = content if isinstance(content, list) else []
    return " ".join(str(part["refusal"]) for part in parts if isinstance(part, dict) and part.get("refusal"))


def _read_error_object(place: dict[str, Any], raw_text: str) -> ChatAnswer:
    """An error with HTTP 200: gateways send it once the model has begun."""
    error = place.get("error") or place
    code, kind = (error.get("code"), error.get("type")) if isinstance(error, dict) else (None, None)
    status = _read_status(code)
    words = f"{code or ''} {kind or ''}".lower()
    is_passing = not words.strip() or any(word in words for word in _PASSING_WORDS)
    message = _find_error_message(place) or raw_text
    told_code = f" {code}" if code else ""
    fault = f"{_NO_COMPLETION} but an error{told_code}: {message}"
    return _make_fault(fault, raw_text, status or 200, may_pass=None if status else is_passing)


def _read_status(code: object) -> int:
    """An HTTP status in an error's code; 0 where there is none."""
    digits = str(code)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) == len("404") else 0


def _find_error_message(completion: dict[str, Any] | None) -> str:
    """The server's own words on what is wrong."""
    places: list[Any] = [completion]
    if completion:
        places.insert(0, completion.get("error"))
    for place in places:
        if isinstance(place, str):
            return place
        for field in ("message", "detail") if isinstance(place, dict) else ():
            if (words := place.get(field)) is not None:
                return words if isinstance(words, str) else json.dumps(words, ensure_ascii=False)
    return ""


def _count_tokens(usage: object) -> tuple[int, int]:
    """Tokens in and out; 0 where the server does not say."""
    names = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    told_counts = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out = (
        next((count for name in pair if (count := _read_count(told_counts.get(name)))), 0) for pair in names
    )
    return tokens_in, tokens_out


def _read_count(value: object) -> int:
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12
    return int(value) if is_count else 0  # type: ignore[call-overload]
