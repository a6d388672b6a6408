"""The contract server behind a proxy that answers some requests itself, as gateways and login pages do."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import NamedTuple

from kfp_server import ROOT, Cluster, Handler, Json


class ProxyAnswer(NamedTuple):
    """What the proxy says in the API's place."""

    request: str
    """Which request: `POST /runs`; a star at its end stands for anything."""
    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    location: str = ""
    """Where a redirect leads to."""


class ProxyHandler(Handler):
    """Answers by itself, or hands the request on."""

    proxy_answer: ProxyAnswer

    def answer(self, route: Callable[[list[str], Json], Json]) -> None:
        wanted = self.proxy_answer.request
        request = f"{self.command} {self.path.partition('?')[0].removeprefix(ROOT)}"
        if request != wanted and not (wanted.endswith("*") and request.startswith(wanted[:-1])):
            super().answer(route)
            return
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.proxy_answer.status)
        self.send_header("Content-Type", self.proxy_answer.content_type)
        if self.proxy_answer.location:
            self.send_header("Location", self.proxy_answer.location)
        self.send_header("Content-Length", str(len(self.proxy_answer.body)))
        self.end_headers()
        self.wfile.write(self.proxy_answer.body)


@contextmanager
def serve_behind_proxy(cluster: Cluster, proxy_answer: ProxyAnswer) -> Iterator[str]:
    """Serves a cluster behind a proxy on a free loopback port; yields its address."""
    handler_class = type("H", (ProxyHandler,), {"cluster": cluster, "proxy_answer": proxy_answer})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_class)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
