"""The connection to a Kubeflow Pipelines cluster, with errors a user can act on.

Environment: `REASEQ_KFP_TOKEN` holds a bearer token, or `REASEQ_KFP_TOKEN_FILE` names a file that holds one.
In a pod with Kubeflow's projected service-account token that one is taken (`KF_PIPELINES_SA_TOKEN_PATH`).
Behind a login page (Dex, OIDC) `REASEQ_KFP_COOKIE_FILE` names a file with the session's cookie. Files are
read again for every request, so what is renewed keeps working. `SSL_CERT_FILE` names a private CA.
"""

import json
import os
import re
import ssl
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import urllib3

from contracts.errors import UserError
from pipelines.cluster.patience import PASSING_STATUS, Patience

TOKEN_VARIABLE = "REASEQ_KFP_TOKEN"  # noqa: S105 (the name of a variable, not a secret)
TOKEN_FILE_VARIABLE = "REASEQ_KFP_TOKEN_FILE"  # noqa: S105
COOKIE_FILE_VARIABLE = "REASEQ_KFP_COOKIE_FILE"
_POD_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105
_POD_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - where Kubeflow projects it
Version = tuple[int, int]
_PROBE_TIMEOUT_S = 10.0
_CALL_TIMEOUT_S = 60.0


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
        UserError: host not reachable, not a Pipelines API, not authorised, or a namespace is needed.
    """
    if not host.startswith(("http://", "https://")):
        raise UserError(f"host '{host}' must start with http:// or https://")
    try:
        health_answer = patience.read(lambda: _probe_health(host.rstrip("/")))
    except ConnectionError as error:
        raise UserError(f"{host} does not come up: {error}; try again later") from error
    _require_new_backend(host, str(health_answer.get("tag_name", "")), oldest_backend)
    if health_answer.get("multi_user") and not namespace:
        raise UserError(f"{host} serves many users; give the namespace of your profile.")
    from kfp.client import Client  # 3 s to import

    class ProbedClient(Client):  # type: ignore[misc]
        """Does not ask once more, without any time limit, for the health that is known."""

        def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:  # noqa: ARG002 - as its parent has it
            return SimpleNamespace(
                multi_user=bool(health_answer.get("multi_user")),
                tag_name=str(health_answer.get("tag_name", "")),
            )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # An empty namespace, unlike None, keeps out the one in ~/.config/kfp of some other cluster.
        client = ProbedClient(
            host=host,
            namespace=namespace or "",
            existing_token=(os.environ.get(TOKEN_VARIABLE) or "").strip() or None,
            credentials=_load_file_credentials(),
            cookies=_read_cookie(),
            ssl_ca_cert=os.environ.get("SSL_CERT_FILE"),
        )
    _guard_calls(client)
    return client


def _guard_calls(client: Any) -> None:
    """Gives every call a time limit, a fresh cookie, and an error where a login page answers.

    kfp sets no limit, and a silently dead connection would hang for ever.
    """
    from kfp_server_api import ApiException  # type: ignore[import-untyped]

    api_client = client._run_api.api_client
    rest_client = api_client.rest_client
    send = rest_client.request

    def send_in_time(*arguments: Any, **options: Any) -> Any:
        # Two numbers: a single one that is no whole number counts for nothing there.
        limits_s = options.get("_request_timeout") or (_CALL_TIMEOUT_S, _CALL_TIMEOUT_S)
        if api_client.cookie:
            options["headers"] = (options.get("headers") or {}) | {"Cookie": _read_cookie()}
        response = send(*arguments, **(options | {"_request_timeout": limits_s}))
        # The session is over: the cluster's gateway led to its login page, which says 200.
        if str(response.getheader("content-type") or "").startswith("text/html"):
            error = ApiException(status=401, reason="a login page answers")
            error.body = b""  # kfp reads it
            raise error
        return response

    rest_client.request = send_in_time


@contextmanager
def explain_cluster_errors(action: str, *, host: str) -> Iterator[None]:
    """Turns the API client's exceptions into a `UserError` that says what failed. Its prints go to stderr."""
    from kfp_server_api import ApiException

    try:
        with redirect_stdout(sys.stderr):
            yield
    except ApiException as error:
        raise UserError(_explain_refusal(action, host, error.status, error.body)) from error
    except urllib3.exceptions.HTTPError as error:
        raise UserError(
            f"could not {action}: {host} stopped answering ({type(error).__name__}); try again."
        ) from error


def _load_file_credentials() -> Any:
    token_path = _find_token_file()
    if not token_path or os.environ.get(TOKEN_VARIABLE):
        return None
    from kfp.client import ServiceAccountTokenVolumeCredentials

    return ServiceAccountTokenVolumeCredentials(token_path)


def _find_token_file() -> str | None:
    pod_token = os.environ.get(_POD_TOKEN_VARIABLE, _POD_TOKEN)
    return os.environ.get(TOKEN_FILE_VARIABLE) or (pod_token if Path(pod_token).is_file() else None)


def _read_cookie() -> str | None:
    cookie_path = os.environ.get(COOKIE_FILE_VARIABLE)
    if not cookie_path:
        return None
    if not Path(cookie_path).is_file():
        raise UserError(f"{COOKIE_FILE_VARIABLE} names '{cookie_path}', which is not a file.")
    return _require_header_text(Path(cookie_path).read_text(encoding="utf-8"), COOKIE_FILE_VARIABLE)


def _read_token() -> str | None:
    token, name = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
    token_path = _find_token_file()
    if not token and token_path:
        if not Path(token_path).is_file():
            raise UserError(f"{TOKEN_FILE_VARIABLE} names '{token_path}', which is not a file.")
        token, name = Path(token_path).read_text(encoding="utf-8"), TOKEN_FILE_VARIABLE
    return _require_header_text(token or "", name)


def _require_header_text(text: str, name: str) -> str | None:
    text = text.strip()
    # A library that refuses the header would print it.
    if not (text.isascii() and text.isprintable()):
        raise UserError(f"the token of {name} holds a line break or a character that no token has")
    return text or None


def _probe_health(host: str) -> dict[str, Any]:
    token = _read_token()
    cookie = _read_cookie()
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
        raise ConnectionError(f"it breaks off ({type(error).__name__})") from error
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise UserError(
            f"no Kubeflow Pipelines API answers at {host} ({error}); check the address, or forward the port: "
            "kubectl -n kubeflow port-forward svc/ml-pipeline 8888"
        ) from error
    # 3xx: the cluster's gateway sends browsers to a login page.
    if response.status in {301, 302, 303, 307, 308, 401, 403}:
        raise UserError(_explain_refusal("connect", host, 401, None))
    if response.status in PASSING_STATUS:
        raise ConnectionError(f"it answers HTTP {response.status}")
    try:
        health_answer = response.json() if response.status == 200 else None
    except ValueError:
        health_answer = None
    if not isinstance(health_answer, dict):
        raise UserError(f"{host} answers, but not as a Kubeflow Pipelines 2 API (HTTP {response.status}).")
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


def _explain_refusal(action: str, host: str, status: int | None, body: str | bytes | None) -> str:
    if status in {401, 403}:
        return (
            f"could not {action}: {host} refuses the credentials (HTTP {status}); set {TOKEN_VARIABLE} or "
            f"{TOKEN_FILE_VARIABLE} to a token that may use this namespace, or, behind a login page, "
            f"{COOKIE_FILE_VARIABLE} to a file with your session's cookie."
        )
    return f"could not {action}: {host} says HTTP {status}: {_read_server_message(body)}"


def _read_server_message(body: str | bytes | None) -> str:
    body_text = body.decode(errors="replace") if isinstance(body, bytes) else body or "no details"
    try:
        parsed_body = json.loads(body_text)
    except ValueError:
        return body_text[:500]
    return (
        str(parsed_body.get("message", body_text))[:500] if isinstance(parsed_body, dict) else body_text[:500]
    )
