"""The connection to a Kubeflow Pipelines cluster, with errors a user can act on.

Environment: `REASEQ_KFP_TOKEN` holds a bearer token, or `REASEQ_KFP_TOKEN_FILE` names a file that holds one and is read
again for every request (so that a rotated service-account token keeps working). `SSL_CERT_FILE` names a private CA.
"""

import json
import os
import ssl
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import urllib3

from contracts.errors import UserError

TOKEN_VARIABLE = "REASEQ_KFP_TOKEN"  # noqa: S105 (the name of a variable, not a secret)
TOKEN_FILE_VARIABLE = "REASEQ_KFP_TOKEN_FILE"  # noqa: S105
_PROBE_TIMEOUT_S = 10.0


def connect(host: str, *, namespace: str | None) -> Any:
    """Opens a `kfp.Client` after one quick look whether the cluster answers.

    The look comes first because `kfp.Client` itself takes half a minute of silent retries over a wrong host.

    Args:
        host: Base address of the Pipelines API, with its scheme.
        namespace: The profile's namespace on a multi-user cluster, None on a single-user one.

    Raises:
        UserError: host not reachable, not a Pipelines API, not authorised, or a namespace is needed.
    """
    if not host.startswith(("http://", "https://")):
        raise UserError(f"host '{host}' must start with http:// or https://")
    health = _probe(host.rstrip("/"))
    if health.get("multi_user") and not namespace:
        raise UserError(f"{host} serves many users; give the namespace of your profile.")
    from kfp.client import Client  # 3 s to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # An empty namespace, unlike None, keeps out the one in ~/.config/kfp of some other cluster.
        return Client(
            host=host,
            namespace=namespace or "",
            existing_token=os.environ.get(TOKEN_VARIABLE),
            credentials=_file_credentials(),
            ssl_ca_cert=os.environ.get("SSL_CERT_FILE"),
        )


@contextmanager
def cluster_errors(action: str, *, host: str) -> Iterator[None]:
    """Turns the API client's exceptions into a `UserError` that says what failed; its prints go to stderr."""
    from kfp_server_api import ApiException  # type: ignore[import-untyped]

    try:
        with redirect_stdout(sys.stderr):
            yield
    except ApiException as error:
        raise UserError(_explain(action, host, error.status, error.body)) from error
    except urllib3.exceptions.HTTPError as error:
        raise UserError(f"could not {action}: {host} stopped answering ({type(error).__name__}); try again.") from error


def _file_credentials() -> Any:
    path = os.environ.get(TOKEN_FILE_VARIABLE)
    if not path or os.environ.get(TOKEN_VARIABLE):
        return None
    from kfp.client import ServiceAccountTokenVolumeCredentials

    return ServiceAccountTokenVolumeCredentials(path)


def _token() -> str | None:
    token = os.environ.get(TOKEN_VARIABLE)
    path = os.environ.get(TOKEN_FILE_VARIABLE)
    if token or not path:
        return token
    if not Path(path).is_file():
        raise UserError(f"{TOKEN_FILE_VARIABLE} names '{path}', which is not a file.")
    return Path(path).read_text(encoding="utf-8").strip()


def _probe(host: str) -> dict[str, Any]:
    token = _token()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib3.PoolManager(ssl_context=ssl.create_default_context()) as pool:
            response = pool.request(
                "GET",
                f"{host}/apis/v2beta1/healthz",
                headers=headers,
                timeout=_PROBE_TIMEOUT_S,
                retries=False,
                redirect=False,
            )
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise UserError(
            f"no Kubeflow Pipelines API answers at {host} ({error}); check the address, or forward the port: "
            "kubectl -n kubeflow port-forward svc/ml-pipeline 8888"
        ) from error
    # 3xx: the cluster's gateway sends browsers to a login page.
    if response.status in {301, 302, 303, 307, 308, 401, 403}:
        raise UserError(_explain("connect", host, 401, None))
    try:
        health = response.json() if response.status == 200 else None
    except ValueError:
        health = None
    if not isinstance(health, dict):
        raise UserError(f"{host} answers, but not as a Kubeflow Pipelines 2 API (HTTP {response.status}).")
    return health


def _explain(action: str, host: str, status: int | None, body: str | bytes | None) -> str:
    if status in {401, 403}:
        return (
            f"could not {action}: {host} refuses the credentials (HTTP {status}); set {TOKEN_VARIABLE} or "
            f"{TOKEN_FILE_VARIABLE} to a token that may use this namespace."
        )
    return f"could not {action}: {host} says HTTP {status}: {_server_message(body)}"


def _server_message(body: str | bytes | None) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or "no details"
    try:
        parsed = json.loads(text)
    except ValueError:
        return text[:500]
    return str(parsed.get("message", text))[:500] if isinstance(parsed, dict) else text[:500]
