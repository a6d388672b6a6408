"""What a cluster's refusals mean, in words that a user can act on."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Final
from urllib.parse import urlsplit

import urllib3

from contracts.errors import UserError
from pipelines.cluster.credentials import COOKIE_FILE_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE

_LONGEST_MESSAGE: Final = 500
_REMEDIES: Final = {
    409: "something of that name is there that your namespace does not show; choose another name",
    413: "a proxy before the API takes nothing of this size; raise its limit (nginx: client_max_body_size)",
}
_LOGIN: Final = (
    f"set {TOKEN_VARIABLE} or {TOKEN_FILE_VARIABLE} to a token that may use this namespace, or, behind a "
    f"login page, {COOKIE_FILE_VARIABLE} to a file with your session's cookie."
)


@contextmanager
def explain_cluster_errors(action: str, *, host: str) -> Iterator[None]:
    """Turns the API client's exceptions into a `UserError` that says what failed. Its prints go to stderr."""
    from kfp_server_api import ApiException  # type: ignore[import-untyped]

    try:
        with redirect_stdout(sys.stderr):
            yield
    except ApiException as error:
        raise UserError(explain_refusal(action, host, error.status, error.body or error.reason)) from error
    except urllib3.exceptions.HTTPError as error:
        raise UserError(
            f"could not {action}: {host} stopped answering ({type(error).__name__}); try again."
        ) from error


def explain_refusal(action: str, host: str, status: int | None, body: str | bytes | None) -> str:
    """Says what was refused, why, and what to do about it."""
    said = read_server_message(body)
    if status == 401:
        return f"could not {action}: {host} refuses the credentials (HTTP 401: {said}); {_LOGIN}"
    if status == 403:
        return (
            f"could not {action}: {host} says that you may not (HTTP 403: {said}); bind the role "
            f"kubeflow-edit in this namespace to whom your token names (Kubeflow's profiles do), or {_LOGIN}"
        )
    remedy = f"; {_REMEDIES[status]}" if status in _REMEDIES else ""
    return f"could not {action}: {host} says HTTP {status}: {said}{remedy}"


def explain_redirect(action: str, host: str, location: str) -> str:
    """Says where a cluster's gateway leads to: to the same place by TLS, or to its login page."""
    target, asked = urlsplit(location), urlsplit(host)
    if target.scheme == "https" and asked.scheme == "http" and target.hostname == asked.hostname:
        return (
            f"could not {action}: {host} leads to https; say --host {asked._replace(scheme='https').geturl()}"
        )
    # Its query holds what a login is told by.
    page = target._replace(query="", fragment="").geturl()
    return f"could not {action}: {host} refuses the credentials (it leads to the login page {page}); {_LOGIN}"


def read_server_message(body: str | bytes | None) -> str:
    """The message of an answer's body, whether it is the API's own JSON, a page or a plain text."""
    body_text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    if body_text.lstrip().startswith("<"):
        # A proxy's page: its title says all.
        title = re.search(r"<title>(.*?)</title>", body_text, re.IGNORECASE | re.DOTALL)
        return f"a page '{title[1].strip()}'"[:_LONGEST_MESSAGE] if title else "a page"
    try:
        parsed_body = json.loads(body_text)
    except ValueError:
        return body_text.strip()[:_LONGEST_MESSAGE] or "no details"
    message = parsed_body.get("message", body_text) if isinstance(parsed_body, dict) else body_text
    return str(message)[:_LONGEST_MESSAGE]
