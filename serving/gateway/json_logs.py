"""Logs as JSON lines, each with the request that it belongs to. Neither users nor items stand in them.

`structlog` writes the lines and keeps the names of the request that is under way. The middleware is our own:
the libraries for it (`asgi-correlation-id`) know one id a request, and a ranking has two.
"""

import logging
import uuid
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, get_contextvars, merge_contextvars
from structlog.processors import JSONRenderer, format_exc_info
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger

REQUEST_ID_HEADER: Final = "x-request-id"
_MAX_TRACE_ID_LENGTH: Final = 256


def bind_request_id(request_id: str | None) -> str:
    """Names what is under way in the logs; returns the name, which is made up where none is given."""
    request_name = request_id or uuid.uuid4().hex
    bind_contextvars(request_id=request_name)
    return request_name


class RequestIdMiddleware:
    """Names each request in the logs and in its answer's header `x-request-id`.

    A caller's own `x-request-id` comes back as it was and stands in the logs as `trace_id`. It does not name
    a ranking: proxies hand one on to several, and each exposure counts once by its name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        bind_request_id(None)
        trace_id = _accept_trace_id(Headers(scope=scope).get(REQUEST_ID_HEADER))
        bind_contextvars(trace_id=trace_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A request id of the body may hold what no header may.
                answer_id = trace_id or quote(get_contextvars()["request_id"], safe="/:@+=,")
                MutableHeaders(raw=message["headers"])[REQUEST_ID_HEADER] = answer_id
            await send(message)

        await self._app(scope, receive, send_with_id)


def configure_json_logs() -> None:
    """Puts all log handlers of this process on JSON lines, those of third-party loggers too."""
    formatter = make_json_formatter()
    named_loggers = [logging.getLogger(name) for name in logging.Logger.manager.loggerDict]
    for handler in {
        handler for logger in (logging.getLogger(), *named_loggers) for handler in logger.handlers
    }:
        handler.setFormatter(formatter)


def make_json_formatter() -> ProcessorFormatter:
    """One JSON object a line: time, level, logger, message, and request, trace and error if any."""
    return ProcessorFormatter(
        foreign_pre_chain=[merge_contextvars], processors=[format_exc_info, _order_fields, JSONRenderer()]
    )


def _order_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    fields = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "logger": record.name,
        "message": event["event"],
        "request_id": event.get("request_id"),
        "trace_id": event.get("trace_id"),
        "error": event.get("exception"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _accept_trace_id(header: str | None) -> str | None:
    is_sane = header and len(header) <= _MAX_TRACE_ID_LENGTH and header.isascii() and header.isprintable()
    return header if is_sane else None
