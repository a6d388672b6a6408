"""Who may come in, and how many at once: decided before a body is read."""

import ipaddress
import os
import secrets
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.config import TOKEN_ENV, GatewayConfig
from serving.gateway.prometheus_metrics import REFUSED_TOTAL

WRITE_PATHS: Final = ("/events",)
"""Paths that need the right to write."""
FORCED_ARMS_HEADER: Final = "x-reaseq-arms"
"""`experiment=arm[,experiment=arm]`: forces arms; needs the same right."""
_RETRY_AFTER_S: Final = 1


class AdmissionMiddleware:
    """Lets so many posts in at once; one more is told to come back, before the queue eats everybody's
    deadline.

    The application's state holds the limits (`app.state.config`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._num_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 401, 411, 413 or 429 by itself."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        refusal = find_refusal(scope, scope["app"].state.config, num_in_flight=self._num_in_flight)
        if refusal is not None:
            REFUSED_TOTAL.labels(str(refusal.status_code)).inc()
            await refusal(scope, receive, send)
            return
        self._num_in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._num_in_flight -= 1


def find_refusal(scope: Scope, config: GatewayConfig, *, num_in_flight: int) -> JSONResponse | None:
    """The answer to a request that may not come in, by its head alone.

    Args:
        scope: ASGI's connection scope of a post.
        config: the limits.
        num_in_flight: posts that are under way.
    """
    headers = Headers(scope=scope)
    if scope["path"] in WRITE_PATHS or FORCED_ARMS_HEADER in headers:
        missing_right = _describe_missing_right(scope, headers)
        if missing_right is not None:
            return _refuse(HTTPStatus.UNAUTHORIZED, missing_right, {"www-authenticate": "Bearer"})
    length_text = headers.get("content-length", "")
    if not length_text.isdecimal():
        return _refuse(HTTPStatus.LENGTH_REQUIRED, "send the body's length (content-length)", {})
    if int(length_text) > config.max_body_bytes:
        length_limit = f"at most {config.max_body_bytes} are allowed (serving.gateway.max_body_bytes)"
        # The body stays unread, so the connection cannot be used again.
        detail = f"a body of {length_text} bytes; {length_limit}"
        return _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, {"connection": "close"})
    if num_in_flight >= config.max_in_flight:
        detail = f"{num_in_flight} requests are under way (serving.gateway.max_in_flight); send it again"
        return _refuse(HTTPStatus.TOO_MANY_REQUESTS, detail, {"retry-after": str(_RETRY_AFTER_S)})
    return None


def _refuse(status: HTTPStatus, detail: str, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def _describe_missing_right(scope: Scope, headers: Headers) -> str | None:
    """Writes come with the token of `REASEQ_GATEWAY_TOKEN` or, where none is set, from this machine."""
    token = os.environ.get(TOKEN_ENV)
    if token:
        authorization = headers.get("authorization", "")
        # Constant time: how long a wrong token takes must not tell how much of it is right.
        if secrets.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            return None
        return "send the header Authorization: Bearer <token>"
    if _is_from_this_machine(scope):
        return None
    return f"this needs a token from another machine: set {TOKEN_ENV} where the gateway runs"


def _is_from_this_machine(scope: Scope) -> bool:
    client = scope.get("client")
    if client is None:  # a Unix socket
        return True
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
