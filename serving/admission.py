"""Who may come in, and how many at once."""

import ipaddress
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastapi import HTTPException, Request

from serving.config import TOKEN_ENV
from serving.metrics import REFUSED

_RETRY_AFTER_S: Final = 1


class Admission:
    """Lets so many requests in at once; one more is told to come back, before the queue eats everybody's deadline."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Holds a place while a request is worked on.

        Raises:
            HTTPException: 429 with `retry-after`, when there is none.
        """
        if self._inside >= self._most:
            REFUSED.inc()
            detail = f"{self._most} requests are under way (serving.gateway.max_in_flight); send it again"
            raise HTTPException(429, detail, headers={"retry-after": str(_RETRY_AFTER_S)})
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


def require_right_to_write(request: Request) -> None:
    """Admits a request that writes: with the token of `REASEQ_GATEWAY_TOKEN`, or, where none is set, from this machine.

    Raises:
        HTTPException: 401 for anybody else.
    """
    token = os.environ.get(TOKEN_ENV)
    if token:
        given = request.headers.get("authorization", "")
        is_admitted = secrets.compare_digest(given.encode(), f"Bearer {token}".encode())
        detail = "send the header Authorization: Bearer <token>"
    else:
        is_admitted = _is_from_this_machine(request)
        detail = f"writing from another machine needs a token: set {TOKEN_ENV} where the gateway runs"
    if not is_admitted:
        raise HTTPException(401, detail, headers={"www-authenticate": "Bearer"})


def _is_from_this_machine(request: Request) -> bool:
    if request.client is None:  # a Unix socket
        return True
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
