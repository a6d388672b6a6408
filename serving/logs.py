"""Logs as JSON lines, each with the request that it belongs to. Neither users nor items stand in them."""

import logging
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_HEADER: Final = "x-request-id"
_MAX_LENGTH: Final = 256
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)


def name_request(request_id: str | None) -> str:
    """Names what is under way in the logs; returns the name, which is made up where none is given."""
    name = request_id or uuid.uuid4().hex
    _request_id.set(name)
    return name


class RequestIds:
    """Names each request in the logs and in its answer's header `x-request-id`.

    A caller's own `x-request-id` comes back as it was and stands in the logs as `trace_id`. It does not name a ranking:
    proxies hand one on to several, and each exposure counts once by its name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name_request(None)
        trace_id = _sound(Headers(scope=scope).get(REQUEST_HEADER))
        _trace_id.set(trace_id)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A caller's request id may hold what no header may.
                name = trace_id or quote(str(_request_id.get()), safe="/:@+=,")
                MutableHeaders(raw=message["headers"])[REQUEST_HEADER] = name
            await send(message)

        await self._app(scope, receive, send_named)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; request, trace and error where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        names = {"request_id": _request_id.get(), "trace_id": _trace_id.get()}
        line |= {field: name for field, name in names.items() if name}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return to_json(line).decode()


def log_as_json() -> None:
    """Puts all log handlers of this process on JSON lines."""
    loggers = [logging.getLogger(), *(found for found in _loggers() if isinstance(found, logging.Logger))]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        handler.setFormatter(JsonFormatter())


def _loggers() -> list[logging.Logger | logging.PlaceHolder]:
    return list(logging.Logger.manager.loggerDict.values())


def _sound(name: str | None) -> str | None:
    return name if name and len(name) <= _MAX_LENGTH and name.isascii() and name.isprintable() else None
