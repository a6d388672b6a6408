"""The few answers of a Kubernetes API server that the doctor asks for, and a kubeconfig that leads there."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Json = dict[str, Any]


@dataclass
class Namespace:
    """Objects by their path below the API's root."""

    name: str = "me"
    objects: dict[str, Json] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    """Kinds that the user may not read: `secrets`."""
    page: bytes | None = None
    """What a proxy answers in the API's place."""
    requests: list[str] = field(default_factory=list)

    def label(self, labels: dict[str, str]) -> None:
        """Makes the namespace itself, with these labels."""
        self.objects[f"/api/v1/namespaces/{self.name}"] = {"metadata": {"name": self.name, "labels": labels}}

    def add_claim(
        self, name: str, phase: str = "Bound", storage_class: str = "nfs", mode: str = "ReadWriteMany"
    ) -> None:
        spec = {"accessModes": [mode], "storageClassName": storage_class}
        self._add("v1", "persistentvolumeclaims", name, {"spec": spec, "status": {"phase": phase}})

    def add_secret(self, name: str, **values: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self._add("v1", "secrets", name, {"data": data})

    def add_config_map(self, name: str, **values: str) -> None:
        self._add("v1", "configmaps", name, {"data": values})

    def add_service(self, name: str, num_ready: int) -> None:
        self._add("v1", "services", name, {})
        endpoints = [{"addresses": [f"10.0.0.{n}"], "conditions": {"ready": True}} for n in range(num_ready)]
        endpoints.append({"addresses": ["10.0.0.99"], "conditions": {"ready": False}})
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.name}/endpointslices?{name}"
        self.objects[path] = {
            "items": [{"addressType": "IPv4", "endpoints": endpoints, "metadata": {"name": name}}]
        }

    def add_storage_class(self, name: str) -> None:
        self.objects[f"/apis/storage.k8s.io/v1/storageclasses/{name}"] = {
            "metadata": {"name": name},
            "provisioner": "nfs.example",
        }

    def _add(self, version: str, kind: str, name: str, body: Json) -> None:
        path = f"/api/{version}/namespaces/{self.name}/{kind}/{name}"
        self.objects[path] = {"metadata": {"name": name}, **body}


@contextmanager
def serve_kubernetes(namespace: Namespace, folder: Path) -> Iterator[Path]:
    """Serves the objects on a free loopback port.

    Yields:
        A kubeconfig that leads there.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            namespace.requests.append(f"GET {url.path}")
            selector = parse_qs(url.query).get("labelSelector", [""])[0]
            key = f"{url.path}?{selector.partition('=')[2]}" if selector else url.path
            status, body = 200, namespace.objects.get(key)
            if any(f"/{kind}" in url.path for kind in namespace.refused):
                status, body = 403, {"kind": "Status", "code": 403}
            elif body is None:
                status, body = 404, {"kind": "Status", "code": 404}
            payload = json.dumps(body).encode()
            if namespace.page is not None:
                status, payload = 200, namespace.page
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args: Any) -> None:
            """Keeps the test output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}],
        "users": [{"name": "me", "user": {"token": "of-kubernetes"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    try:
        yield path
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
