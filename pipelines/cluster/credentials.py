"""Who we are to a cluster: a bearer token, or the session of a login page.

`REASEQ_KFP_TOKEN` holds a bearer token, or `REASEQ_KFP_TOKEN_FILE` names a file that holds one. In a pod with
Kubeflow's projected service-account token that one is taken (`KF_PIPELINES_SA_TOKEN_PATH`). Behind a login
page (Dex, OIDC) `REASEQ_KFP_COOKIE_FILE` names a file with the session's cookie. Files are read again for
every request, so what is renewed keeps working.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from contracts.errors import UserError

TOKEN_VARIABLE = "REASEQ_KFP_TOKEN"  # noqa: S105 (the name of a variable, not a secret)
TOKEN_FILE_VARIABLE = "REASEQ_KFP_TOKEN_FILE"  # noqa: S105
COOKIE_FILE_VARIABLE = "REASEQ_KFP_COOKIE_FILE"
_POD_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105
_POD_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - where Kubeflow projects it
# Copied with its header's name, or with the word that stands before a token in one.
_TOKEN_PREFIX: Final = re.compile(r"(authorization:\s*)?bearer\s+", re.IGNORECASE)
_COOKIE_PREFIX: Final = re.compile(r"cookie:\s*", re.IGNORECASE)


class FileToken:
    """Kubeflow's client asks it for the token before each request."""

    def refresh_api_key_hook(self, settings: Any) -> None:
        """Reads the file again. While somebody is writing it, the token before stays."""
        with suppress(UserError):
            settings.api_key["authorization"] = read_token()


def find_token_file() -> str | None:
    """The file that holds the token, where one is named or projected into the pod."""
    pod_token = os.environ.get(_POD_TOKEN_VARIABLE, _POD_TOKEN)
    return os.environ.get(TOKEN_FILE_VARIABLE) or (pod_token if Path(pod_token).is_file() else None)


def read_token() -> str | None:
    """The bearer token; None where none is given.

    Raises:
        UserError: its file cannot be read, or what it holds is no token.
    """
    token, token_path = os.environ.get(TOKEN_VARIABLE), find_token_file()
    if token:
        return _require_header_text(_TOKEN_PREFIX.sub("", token.strip(), count=1), TOKEN_VARIABLE)
    if token_path is None:
        return None
    return _require_header_text(
        _TOKEN_PREFIX.sub("", _read_text(token_path, TOKEN_FILE_VARIABLE), count=1), TOKEN_FILE_VARIABLE
    )


def read_cookie() -> str | None:
    """The session's cookie; None where none is given.

    Raises:
        UserError: its file cannot be read, or what it holds is no cookie.
    """
    cookie_path = os.environ.get(COOKIE_FILE_VARIABLE)
    if not cookie_path:
        return None
    text = _COOKIE_PREFIX.sub("", _read_text(cookie_path, COOKIE_FILE_VARIABLE), count=1)
    cookie = _require_header_text(text, COOKIE_FILE_VARIABLE)
    if "=" not in cookie:
        raise UserError(
            f"{COOKIE_FILE_VARIABLE}: the file must hold name=value, as in oauth2_proxy_kubeflow=..."
        )
    return cookie


def _read_text(path: str, variable: str) -> str:
    if not Path(path).is_file():
        raise UserError(f"{variable} names '{path}', which is not a file.")
    try:
        text = Path(path).read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{variable} names '{path}', which cannot be read ({type(error).__name__})") from None
    if not text:
        raise UserError(f"{variable} names '{path}', which is empty; write the token or cookie into it")
    return text


def _require_header_text(text: str, variable: str) -> str:
    # A library that refuses the header would print it.
    if not (text.isascii() and text.isprintable()):
        raise UserError(f"the token of {variable} holds a line break or a character that no token has")
    return text
