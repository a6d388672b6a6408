"""Do the servers answer that the configuration names?"""

import os
import socket
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import urllib3

from pipelines.config import RunConfig
from pipelines.doctor.check import Check
from pipelines.doctor.kubernetes_api import CannotAskError, KubernetesApi
from pipelines.doctor.package_needs import list_asked_teachers
from pipelines.step_settings import SECRET_NAME

_TIMEOUT_S: Final = 5.0
_REDIS_PORT: Final = 6379
GATEWAY_SERVICE: Final = "gateway"
"""Service of the gateway in infra/k8s; it listens on port 80."""


class Server(NamedTuple):
    """A server that steps or users speak to."""

    name: str
    host: str
    port: int


class _UnknownNameError(OSError):
    """The host's name means nothing where this runs."""


def check_services(
    config: RunConfig, *, namespace: str, api: KubernetesApi | None, no_api: str, gateway_url: str | None
) -> Iterator[Check]:
    """Reaches each server by its own address, or asks Kubernetes for ready pods behind its Service.

    A Service's name means something inside the cluster only. What is reached from here may still be shut to
    a step by a network policy.
    """
    servers = [*_list_triton_servers(config), *_list_teacher_servers(config)]
    for name, variable, connection in _list_redis_connections(config):
        connection = connection or _read_connection(variable, api)
        host, port = _split_address(connection)
        if host:
            servers.append(Server(name, host, port))
        else:
            ask = f"kubectl -n {namespace} get svc redis"
            place = f"is {variable} of secret {SECRET_NAME}" if variable else "cannot be read"
            yield Check(name, "could not ask", f"its address {place}", ask)
    for server in servers:
        yield _check_server(server, namespace, api, no_api)
    if gateway_url:
        yield _check_gateway(gateway_url)
    else:
        yield _ask_service(Server("gateway", GATEWAY_SERVICE, 80), namespace, api, no_api)


def _list_triton_servers(config: RunConfig) -> Iterator[Server]:
    triton = config.serving.triton
    for address in triton.addresses or (f"{triton.host}:{triton.grpc_port}",):
        host, _, port = address.rpartition(":")
        yield Server("Triton", host, int(port))


def _list_teacher_servers(config: RunConfig) -> Iterator[Server]:
    for teacher in list_asked_teachers(config.knowledge):
        base_url = getattr(teacher, "base_url", None)
        if base_url:
            scheme_port = 443 if base_url.startswith("https:") else 80
            yield Server("teacher", *_split_address(base_url, scheme_port))


def _list_redis_connections(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    """Name, variable that holds the address, and the address itself where the configuration says it."""
    connection = config.features.redis_connection
    if config.features.online_store == "redis":
        is_reference = connection.startswith("${")
        yield "Redis", connection.strip("${}") if is_reference else "", "" if is_reference else connection
    if config.serving.event_log.sink == "redis":
        yield "event sink", "REASEQ_EVENT_SINK", ""


def _read_connection(variable: str, api: KubernetesApi | None) -> str:
    if os.environ.get(variable):
        return os.environ[variable]
    try:
        return ((api.read_secret(SECRET_NAME) if api else None) or {}).get(variable, "")
    except CannotAskError:
        return ""


def _split_address(connection: str, usual_port: int = _REDIS_PORT) -> tuple[str, int]:
    """Host and port alone: the rest may be a password. No host where it cannot be read."""
    if "://" not in connection:
        connection = f"redis://{connection.partition(',')[0]}"
    try:
        parts = urlsplit(connection)
        return parts.hostname or "", parts.port or usual_port
    except ValueError:  # it quotes what it could not read, which may be a part of the password
        return "", usual_port


def _check_server(server: Server, namespace: str, api: KubernetesApi | None, no_api: str) -> Check:
    subject = f"{server.name} {server.host}:{server.port}"
    try:
        _connect(server)
    except _UnknownNameError:
        return _ask_service(server, namespace, api, no_api)
    except OSError as error:
        detail = f"does not answer from here ({error.strerror or type(error).__name__})"
        return Check(subject, "missing", detail, "start it, or correct its address in the configuration")
    return Check(subject, "ok", "answers from here")


def _connect(server: Server) -> None:
    try:
        socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:  # the second: of a label that no name can have
        raise _UnknownNameError(str(error)) from error
    with socket.create_connection((server.host, server.port), timeout=_TIMEOUT_S):
        pass


def _ask_service(server: Server, namespace: str, api: KubernetesApi | None, no_api: str) -> Check:
    subject = f"{server.name} {server.host}:{server.port}"
    service, _, rest = server.host.partition(".")
    where = rest.partition(".")[0] or namespace
    ask = (
        f"kubectl -n {where} run reach --rm -i --restart=Never --image=busybox -- "
        f"nc -zw5 {server.host} {server.port}"
    )
    if rest.count(".") and rest.split(".")[1] != "svc":
        return Check(subject, "could not ask", "its name means nothing here, and is no Service's", ask)
    if api is None:
        return Check(subject, "could not ask", f"its name means nothing here, and {no_api}", ask)
    try:
        num_ready = api.count_ready_addresses(service, where)
    except CannotAskError as error:
        return Check(subject, "could not ask", f"its name means nothing here, and {error}", ask)
    if num_ready is None:
        remedy = f"kubectl -n {where} apply -k infra/k8s/overlays/local, or correct the configuration"
        return Check(subject, "missing", f"namespace {where} has no Service {service}", remedy)
    if not num_ready:
        # Before the first deployment this is as it should be of the gateway.
        remedy = f"kubectl -n {where} describe pods -l app.kubernetes.io/name={service}"
        if server.name == "gateway":
            return Check(
                subject, "ok", "deployed; no pod is ready, as before the first deployment of a ranker"
            )
        return Check(subject, "missing", f"no pod of Service {service} is ready", remedy)
    return Check(subject, "ok", f"{num_ready} ready pod(s) behind Service {service}")


def _check_gateway(url: str) -> Check:
    subject = f"gateway {url}"
    try:
        with urllib3.PoolManager() as pool:
            response = pool.request("GET", f"{url.rstrip('/')}/readyz", timeout=_TIMEOUT_S, retries=False)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        remedy = "kubectl port-forward svc/gateway 3000:80"
        return Check(subject, "missing", f"does not answer ({type(error).__name__})", remedy)
    if response.status == 200:
        return Check(subject, "ok", "ready")
    if response.status == 503:
        detail = response.data.decode(errors="replace")[:200].strip() or "not ready"
        return Check(subject, "ok", f"lives, and waits for a deployment: {detail}")
    return Check(subject, "missing", f"answers HTTP {response.status}", "is this our gateway?")
