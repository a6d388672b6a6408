"""Going down without a lost request: first not ready any more, then no more listening, then what is under way is done.

BentoML hands SIGTERM to its worker, whose server (uvicorn) at once stops to listen. Load balancers learn of it later,
by `/readyz`; until then the worker keeps answering, and asks clients to close their connections.
"""

import asyncio
import signal
import threading
from types import FrameType

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Drain:
    """Knows whether this worker is going down."""

    def __init__(self) -> None:
        self.has_begun = False

    def on_sigterm(self, *, after_s: float) -> None:
        """From now on SIGTERM begins the drain, and comes to the server itself `after_s` later.

        Call it inside the event loop. In a thread (tests) it does nothing: signals belong to the main thread.
        """
        former = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(former):
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            if not self.has_begun:
                self.has_begun = True
                loop.call_soon_threadsafe(loop.call_later, after_s, former, number, frame)

        signal.signal(signal.SIGTERM, begin)


class CloseConnections:
    """Once the drain has begun, each answer ends its connection: the next request goes to another gateway."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._drain.has_begun:
                MutableHeaders(raw=message["headers"])["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_closing if scope["type"] == "http" else send)
