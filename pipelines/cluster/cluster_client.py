"""The connection to a Kubeflow Pipelines cluster, with errors a user can act on.

`credentials.py` says how to log in. `SSL_CERT_FILE` names a private CA.
"""

import json
import os
import re
import ssl
import warnings
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import urllib3

from contracts.errors import UserError
from pipelines.cluster.credentials import (
    TOKEN_VARIABLE,
    FileToken,
    find_token_file,
    read_cookie,
    read_token,
)
from pipelines.cluster.patience import PASSING_STATUS, Patience
from pipelines.cluster.refusals import explain_redirect, explain_refusal, read_server_message

Version = tuple[int, int]
_PROBE_TIMEOUT_S = 10.0
_CALL_TIMEOUT_S = 60.0
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_TLS_REMEDIES = {
    "CERTIFICATE_VERIFY_FAILED": "name your CA's certificates by SSL_CERT_FILE",
    "WRONG_VERSION_NUMBER": "the port speaks no TLS; say http://",
}


def connect_to_cluster(
    host: str, *, namespace: str | None, patience: Patience, oldest_backend: Version = (2, 0)
) -> Any:
    """Opens a `kfp.Client` after one quick look whether the cluster answers.

    The look comes first because `kfp.Client` itself takes half a minute of silent retries over a wrong host.

    Args:
        host: Base address of the Pipelines API, with its scheme.
        namespace: The profile's namespace on a multi-user cluster, None on a single-user one.
        patience: How long a cluster that answers 5xx is asked again.
        oldest_backend: The first version that understands what will be sent.

    Raises:
        UserError: host not reachable, not a Pipelines API, not authorized, or a namespace is needed.
    """
    _require_address(host)
    if namespace is not None and not _NAMESPACE.fullmatch(namespace):
        raise UserError(
            f"namespace '{namespace}' cannot be one: lowercase letters, digits and dashes, at most 63 of them"
        )
    try:
        health_answer = patience.read(lambda: _probe_health(host.rstrip("/")))
    except ConnectionError as error:
        raise UserError(f"{host} does not come up: {error}; try again later") from error
    _require_new_backend(host, str(health_answer.get("tag_name", "")), oldest_backend)
    _require_fitting_namespace(host, namespace, is_multi_user=health_answer.get("multi_user") is True)
    from kfp.client import Client  # 3 s to import

    class ProbedClient(Client):  # type: ignore[misc]
        """Does not ask once more, without any time limit, for the health that is known."""

        def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:  # noqa: ARG002 - as its parent has it
            return SimpleNamespace(
                multi_user=bool(health_answer.get("multi_user")),
                tag_name=str(health_answer.get("tag_name", "")),
            )

    has_token_file = find_token_file() is not None and not os.environ.get(TOKEN_VARIABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # An empty namespace, unlike None, keeps out the one in ~/.config/kfp of some other cluster.
        client = ProbedClient(
            host=host,
            namespace=namespace or "",
            existing_token=None if has_token_file else read_token(),
            credentials=FileToken() if has_token_file else None,
            cookies=read_cookie(),
            ssl_ca_cert=os.environ.get("SSL_CERT_FILE"),
        )
    _guard_calls(client)
    return client


def _require_address(host: str) -> None:
    if not host.startswith(("http://", "https://")):
        raise UserError(f"host '{host}' must start with http:// or https://")
    try:
        address = urlsplit(host)
        is_whole = bool(address.hostname) and address.port != 0 and not re.search(r"\s", host)
    except ValueError:  # of a port or a bracket
        address, is_whole = None, False
    if address is not None and "@" in address.netloc:
        raise UserError(f"host must hold no user and no password; put a token into {TOKEN_VARIABLE}")
    if not is_whole or address is None:
        raise UserError(f"host '{host}' is no address; say it as in https://kubeflow.example/pipeline")
    if address.query or address.fragment:
        bare = address._replace(query="", fragment="").geturl().rstrip("/")
        raise UserError(f"host '{host}' is a page of the UI; say the API's address alone, such as {bare}")


def _require_fitting_namespace(host: str, namespace: str | None, *, is_multi_user: bool) -> None:
    if is_multi_user and not namespace:
        raise UserError(f"{host} serves many users; give the namespace of your profile.")
    if namespace and not is_multi_user:
        raise UserError(
            f"{host} serves one user, in the namespace that it is installed in; leave out --namespace, "
            f"which says {namespace}"
        )


def _guard_calls(client: Any) -> None:
    """Gives every call a time limit, a fresh cookie, and an error where something else than the API answers.

    kfp sets no limit, and a silently dead connection would hang for ever. It also takes any text for an
    answer without fields, and follows a login page's redirect as if it led to the API.
    """
    from kfp_server_api import ApiException  # type: ignore[import-untyped]

    api_client = client._run_api.api_client
    rest_client = api_client.rest_client
    # Repetitions are ours, and a redirect leads to no API.
    rest_client.pool_manager.connection_pool_kw["retries"] = False
    send = rest_client.request

    def send_in_time(method: str, url: str, *arguments: Any, **options: Any) -> Any:
        # Two numbers: a single one that is no whole number counts for nothing there.
        limits_s = options.get("_request_timeout") or (_CALL_TIMEOUT_S, _CALL_TIMEOUT_S)
        if api_client.cookie:
            # While somebody is writing the file, the cookie before stays.
            with suppress(UserError):
                api_client.cookie = read_cookie()
            options["headers"] = (options.get("headers") or {}) | {"Cookie": api_client.cookie}
        try:
            response = send(method, url, *arguments, **(options | {"_request_timeout": limits_s}))
        except ApiException as error:
            if 300 <= (error.status or 0) < 400:
                raise fail(401, "it leads to a login page") from error
            raise
        if str(response.getheader("content-type") or "").startswith("text/html"):
            raise fail(401, "a login page answers")
        if not _is_api_answer(method, url, response.data):
            raise fail(502, f"the answer is none of the API: {read_server_message(response.data)[:100]}")
        return response

    def fail(status: int, reason: str) -> Exception:
        error = ApiException(status=status, reason=reason)
        error.body = reason.encode()  # kfp reads it
        return error  # type: ignore[no-any-return]

    rest_client.request = send_in_time


def _is_api_answer(method: str, url: str, data: str | bytes) -> bool:
    """Whether it is a JSON object, and one with fields where something was made."""
    if method == "DELETE":
        return True
    try:
        answer = json.loads(data)
    except ValueError:
        return False
    is_made = method == "POST" and not url.endswith((":enable", ":disable"))
    return isinstance(answer, dict) and bool(answer or not is_made)


def _probe_health(host: str) -> dict[str, Any]:
    token, cookie = read_token(), read_cookie()
    request_headers = {"authorization": f"Bearer {token}"} if token else {}
    request_headers |= {"cookie": cookie} if cookie else {}
    try:
        with urllib3.PoolManager(ssl_context=ssl.create_default_context()) as connection_pool:
            response = connection_pool.request(
                "GET",
                f"{host}/apis/v2beta1/healthz",
                headers=request_headers,
                timeout=_PROBE_TIMEOUT_S,
                retries=False,
                redirect=False,
            )
    except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError) as error:
        scheme_hint = ", perhaps it wants https://" if host.startswith("http://") else ""
        raise ConnectionError(f"it breaks off ({type(error).__name__}){scheme_hint}") from error
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        remedies = (remedy for mark, remedy in _TLS_REMEDIES.items() if mark in str(error))
        forward = (
            "check the address, or forward the port: kubectl -n kubeflow port-forward svc/ml-pipeline 8888"
        )
        raise UserError(
            f"no Kubeflow Pipelines API answers at {host} ({error}); {next(remedies, forward)}"
        ) from error
    if 300 <= response.status < 400:
        raise UserError(explain_redirect("connect", host, response.headers.get("location", "")))
    if response.status in {401, 403}:
        raise UserError(explain_refusal("connect", host, response.status, response.data))
    if response.status in PASSING_STATUS:
        raise ConnectionError(f"it answers HTTP {response.status}")
    try:
        health_answer = response.json() if response.status == 200 else None
    except ValueError:
        health_answer = None
    if not isinstance(health_answer, dict):
        raise UserError(
            f"{host} answers, but not as a Kubeflow Pipelines 2 API (HTTP {response.status}: "
            f"{read_server_message(response.data)[:200]}); its API lies at .../pipeline of Kubeflow's address"
        )
    return health_answer


def _require_new_backend(host: str, tag_name: str, oldest_backend: Version) -> None:
    # Builds of a branch bear names that say nothing; those pass.
    match = re.match(r"v?(\d+)\.(\d+)", tag_name)
    if match and tuple(map(int, match.groups())) < oldest_backend:
        oldest = ".".join(map(str, oldest_backend))
        raise UserError(
            f"{host} runs Kubeflow Pipelines {tag_name}; the package needs {oldest} or newer. Packages for "
            "2.15 are compiled with `run_as_user: null` in a --policy; none is for an older one"
        )
