"""What a chat-completions server answered, read for what it means and not only as the standard has it.

Servers and the gateways before them answer in many ways: content as a list of parts or only in a field for
thoughts, an error inside of HTTP 200, a page of a proxy. Whatever comes is read as an answer or as a fault in
words; nothing raises.
"""

import json
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from models.knowledge.teachers.chat_body import parse_chat_body
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
_THOUGHT_FIELDS: Final = ("reasoning_content", "reasoning", "reasoning_details", "thinking")
_TEXT_PARTS: Final = ("", "text", "output_text", "json", "output_json", "json_object")
"""Types of parts of a content that hold its text. Others hold thoughts or a refusal."""
_THOUGHT_PARTS: Final = (*_TEXT_PARTS, "reasoning.text", "thinking", "reasoning", "reasoning_text")
_TEXT_FIELDS: Final = ("text", "content", "value", "parsed", "json", "thinking")
"""Fields of a part that hold its text, or further parts."""
_USAGE_NAMES: Final = (
    ("prompt_tokens", "input_tokens"),
    ("completion_tokens", "output_tokens"),
    ("total_tokens",),
)
_MAX_TOKENS: Final = 1e9
"""More than any model reads or writes at once."""
_STATUS_FIELDS: Final = ("statusCode", "status_code", "status", "code", "error_code")
"""Where gateways name the status of an error that has no object of its own."""
_WELL_CODES: Final = ("None", "0", "200")
_ERROR_FIELDS: Final = ("error", "errors", "base_resp")
_MESSAGE_FIELDS: Final = ("message", "detail", "msg", "status_msg", "error_msg", "error_message")
_MAX_DEPTH: Final = 4
"""Of parts within parts."""


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
    completion = parse_chat_body(body)
    if status >= 400:
        message = _find_error_message(completion) or raw_text or "without a word"
        return _make_fault(f"HTTP {status} from the teacher: {message}", raw_text, status)
    if completion is None:  # a page of a proxy, or a body that was cut off
        return _make_fault(f"{_NO_COMPLETION} but {raw_text or 'empty'}", raw_text, status, may_pass=True)
    answer = _read_completion_object(completion, raw_text, expected_keys)
    tokens_in, tokens_out = _count_tokens(completion.get("usage"))
    return answer._replace(tokens_in=tokens_in, tokens_out=tokens_out)


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
        if isinstance(place, dict) and _is_error(place):
            return _read_error_object(place, raw_text)
    if not isinstance(choice, dict):
        words = _find_error_message(completion) or "it has no choices"
        told_codes = [_read_status(completion.get(field)) for field in _STATUS_FIELDS]
        status = next((code for code in told_codes if code >= 400), 0)
        may_pass = None if status else False
        return _make_fault(f"{_NO_COMPLETION}: {words}", raw_text, status or 200, may_pass=may_pass)
    message, reason = _find_message(choice), str(choice.get("finish_reason") or "")
    if not isinstance(message, dict):
        told_reason = f" (finish_reason {reason})" if reason else ""
        return _make_fault(f"{_NO_COMPLETION}: a choice without message{told_reason}", raw_text, 200)
    answer = _read_message(message, reason.lower(), raw_text, expected_keys)
    return answer._replace(mean_logprob=_read_mean_logprob(choice.get("logprobs")))


def _find_message(choice: dict[str, Any]) -> dict[str, Any] | None:
    """The message, also of a server that streams or completes texts."""
    for field in ("message", "delta", "text"):
        message = choice.get(field)
        if isinstance(message, str):
            return {"content": message}
        if isinstance(message, dict):
            return message
    return None


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
    content = message.get("content")
    text = _join_text_parts(content)
    refusal = message.get("refusal") or _find_refusal_part(content)
    if refusal and not text.strip():
        return _make_fault(f"the model refused: {refusal}", raw_text, 200)
    if reason in _FILTER_REASONS:
        return _make_fault(f"the server's content filter stopped the answer ({reason})", raw_text, 200)
    if not text.strip():
        text = _join_text_parts(message.get("parsed")) or _read_tool_arguments(message)
    if not text.strip():
        # A server that parses thoughts apart takes an answer that is held to a schema for one.
        text = "\n".join(_join_text_parts(message.get(field), _THOUGHT_PARTS) for field in _THOUGHT_FIELDS)
    answer_text = extract_json_object(text, expected_keys)
    return ChatAnswer(escape_surrogates(answer_text), is_truncated=reason in _CUT_OFF_REASONS)


def _join_text_parts(content: object, part_types: Collection[str] = _TEXT_PARTS, depth: int = 0) -> str:
    """The text of a content: a string, a list of parts, or an object that a gateway has parsed already."""
    if isinstance(content, str):
        return content
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(content, list):
        return "".join(_join_text_parts(part, part_types, depth + 1) for part in content)
    if not isinstance(content, dict):
        return ""
    part_type = content.get("type")
    if isinstance(part_type, str) and part_type.lower() not in part_types:
        return ""
    for field in _TEXT_FIELDS:
        if text := _join_text_parts(content.get(field), part_types, depth + 1):
            return text
    is_part = part_type is not None or any(field in content for field in _TEXT_FIELDS)
    return "" if is_part else json.dumps(content, ensure_ascii=False)


def _read_tool_arguments(message: dict[str, Any]) -> str:
    """Gateways ask some models for a schema as a call of a tool: its arguments are the answer."""
    tool_calls = message.get("tool_calls")
    calls = tool_calls if isinstance(tool_calls, list) else []
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    for function in (*functions, message.get("function_call")):
        if isinstance(function, dict) and (arguments := _join_text_parts(function.get("arguments"))):
            return arguments
    return ""


def _find_refusal_part(content: object) -> str:
    parts = content if isinstance(content, list) else []
    return " ".join(str(part["refusal"]) for part in parts if isinstance(part, dict) and part.get("refusal"))


def _is_error(place: dict[str, Any]) -> bool:
    """Whether a completion or choice is an error. Some gateways send one that says that all is well."""
    error = place.get("error")
    if isinstance(error, dict) and place.get("choices"):
        code, message = error.get("code"), error.get("message")
        return bool(error) and not (str(code) in _WELL_CODES and message in (None, "", "success", "ok"))
    return bool(error) or "error" in (place.get("object"), place.get("type"))


def _read_error_object(place: dict[str, Any], raw_text: str) -> ChatAnswer:
    """An error with HTTP 200: gateways send it once the model has begun."""
    error = place.get("error") or place
    fields = error if isinstance(error, dict) else {}
    code, kind = fields.get("code"), fields.get("type")
    status = _read_status(code) or _read_status(fields.get("status"))
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
    places: list[Any] = [completion.get(field) for field in _ERROR_FIELDS] if completion else []
    for place in (*places, completion):
        if isinstance(place, list) and place:
            place = place[0]
        if isinstance(place, str) and place:
            return place
        for field in _MESSAGE_FIELDS if isinstance(place, dict) else ():
            if (words := place.get(field)) is not None:
                return words if isinstance(words, str) else json.dumps(words, ensure_ascii=False)
    return ""


def _count_tokens(usage: object) -> tuple[int, int]:
    """Tokens in and out; 0 where the server does not say. Of a sum alone the rest is taken as written."""
    told_counts = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out, num_all = (
        next((count for name in names if (count := _read_count(told_counts.get(name)))), 0)
        for names in _USAGE_NAMES
    )
    # Written tokens cost more, so a budget is reached rather too early than too late.
    return tokens_in, tokens_out or max(num_all - tokens_in, 0)


def _read_count(value: object) -> int:
    try:
        count = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0
    return int(count) if 0 < count < _MAX_TOKENS and not isinstance(value, bool) else 0
