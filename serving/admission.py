"""Who may come in, and how many at once: decided before a body is read.

Shape: an ASGI middleware around the gateway's application, whose state holds the settings.
"""

import ipaddress
import os
import secrets
from http import HTTPStatus
from typing import Final, NamedTuple

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.config import TOKEN_ENV, GatewayConfig
from serving.metrics import REFUSED

WRITES: Final = ("/events",)
"""Paths that need the right to write."""
FORCE_HEADER: Final = "x-reaseq-arms"
"""`experiment=arm[,experiment=arm]`: forces arms; needs the same right."""
_RETRY_AFTER_S: Final = 1


class Refusal(NamedTuple):
    """Why somebody is sent away."""

    status: HTTPStatus
    detail: str
    headers: dict[str, str]


class Admission:
    """Lets so many posts in at once; one more is told to come back, before the queue eats everybody's deadline."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 401, 411, 413 or 429 by itself."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        refusal = refuse(scope, scope["app"].state.config, inside=self._inside)
        if refusal is not None:
            REFUSED.labels(str(refusal.status.value)).inc()
            answer = JSONResponse({"detail": refusal.detail}, refusal.status, refusal.headers)
            await answer(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1


def refuse(scope: Scope, config: GatewayConfig, *, inside: int) -> Refusal | None:
    """What speaks against a request, by its head alone.

    Args:
        scope: ASGI's connection scope of a post.
        config: the limits.
        inside: posts that are under way.
    """
    headers = Headers(scope=scope)
    if (scope["path"] in WRITES or FORCE_HEADER in headers) and (why := _lacks_right_to_write(scope, headers)):
        return Refusal(HTTPStatus.UNAUTHORIZED, why, {"www-authenticate": "Bearer"})
    length = headers.get("content-length", "")
    if not length.isdecimal():
        return Refusal(HTTPStatus.LENGTH_REQUIRED, "send the body's length (content-length)", {})
    if int(length) > config.max_body_bytes:
        why = f"a body of {length} bytes; at most {config.max_body_bytes} are allowed (serving.gateway.max_body_bytes)"
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why, {"connection": "close"})
    if inside >= config.max_in_flight:
        why = f"{inside} requests are under way (serving.gateway.max_in_flight); send it again"
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, why, {"retry-after": str(_RETRY_AFTER_S)})
    return None


def _lacks_right_to_write(scope: Scope, headers: Headers) -> str | None:
    """Writes come with the token of `REASEQ_GATEWAY_TOKEN` or, where none is set, from this machine."""
    token = os.environ.get(TOKEN_ENV)
    if token:
        given = headers.get("authorization", "")
        if secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
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
