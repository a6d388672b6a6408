"""Goes down without a lost request.

The gateway is first not ready any more, then listens no more, then answers what is under way. BentoML hands
SIGTERM to its worker, whose server (uvicorn) at once stops to listen. Load balancers learn of it later, by
`/readyz`; until then the worker keeps answering, and asks clients to close their connections.
"""

import asyncio
import signal
import threading
from types import FrameType

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ConnectionDrain:
    """Knows whether this worker is going down."""

    def __init__(self) -> None:
        self.has_begun = False

    def begin_on_sigterm(self, *, after_s: float) -> None:
        """From now on SIGTERM begins the drain, and comes to the server itself `after_s` later.

        Call it inside the event loop. In a thread (tests) it does nothing: signals belong to the main thread.
        """
        server_handler = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(server_handler):
            return
        event_loop = asyncio.get_running_loop()
        call_later = event_loop.call_later

        def begin_drain(signal_number: int, frame: FrameType | None) -> None:
            if not self.has_begun:
                self.has_begun = True
                event_loop.call_soon_threadsafe(call_later, after_s, server_handler, signal_number, frame)

        signal.signal(signal.SIGTERM, begin_drain)


class CloseConnectionsMiddleware:
    """Once the drain has begun, each answer ends its connection: the next request goes to another gateway."""

    def __init__(self, app: ASGIApp, drain: ConnectionDrain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and self._drain.has_begun:
                MutableHeaders(raw=message["headers"])["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_and_close if scope["type"] == "http" else send)
