"""The body of a chat-completions response as one JSON object, however the server or its gateway packs it."""

import json
from collections.abc import Iterator
from typing import Any, Final

_DECODER: Final = json.JSONDecoder()
_WRAPPERS: Final = ("result", "data", "response", "body")
"""Fields in which gateways hand on what the model's server said."""
_GATHERED_FIELDS: Final = ("content", "reasoning_content", "reasoning", "refusal")
"""Of a stream's pieces: their texts are parts of one."""


def parse_chat_body(body: bytes) -> dict[str, Any] | None:
    """The object; none where the body holds no object, or not all of it."""
    text = body.decode(json.detect_encoding(body), "replace").strip("\ufeff \t\r\n")
    if text.startswith(("data:", "event:", "id:")) or "\ndata:" in text[:1000]:
        return _join_stream(text)
    # Lines with a colon are comments by which a gateway keeps the connection open.
    while text.startswith(":") and "\n" in text:
        text = text.partition("\n")[2].lstrip()
    try:
        content, _ = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, list) and len(content) == 1:  # so some gateways send their errors
        (content,) = content
    return _unwrap(content) if isinstance(content, dict) else None


def _unwrap(content: dict[str, Any]) -> dict[str, Any]:
    if not content.get("choices"):
        for field in _WRAPPERS:
            inner_content = content.get(field)
            if isinstance(inner_content, dict) and inner_content.get("choices"):
                return inner_content
    return content


def _join_stream(text: str) -> dict[str, Any] | None:
    """A server that streams though nobody asked: its pieces joined; none where the stream has no end."""
    gathered_texts: dict[str, list[str]] = {field: [] for field in _GATHERED_FIELDS}
    joined: dict[str, Any] = {}
    finish_reason = None
    for event in _read_events(text):
        if event.get("error"):
            return event
        joined |= {name: value for name, value in event.items() if value is not None and name != "choices"}
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            continue
        finish_reason = choice.get("finish_reason") or finish_reason
        piece = choice.get("delta") or choice.get("message")
        if isinstance(piece, dict):
            for field in _GATHERED_FIELDS:
                if isinstance(piece.get(field), str):
                    gathered_texts[field].append(piece[field])
    if finish_reason is None:
        return None
    message = {field: "".join(texts) for field, texts in gathered_texts.items() if texts}
    return {**joined, "choices": [{"message": message, "finish_reason": finish_reason}]}


def _read_events(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("data:"):
            try:
                event = json.loads(line.removeprefix("data:"))
            except (ValueError, RecursionError):  # the mark of the end, or a piece that was cut off
                continue
            if isinstance(event, dict):
                yield event
