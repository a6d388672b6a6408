"""`reaseq rank`: sends one ranking request to the gateway and prints the answer."""

import argparse
import json
import os
import urllib.error
import urllib.request
from typing import Any

from contracts.errors import UserError
from reaseq.options import add_config_options, config_of
from serving.config import TOKEN_ENV

_TIMEOUT_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--user", required=True, help="user id")
    parser.add_argument("--candidates", nargs="+", required=True, metavar="ITEM", help="item ids to rank")
    parser.add_argument("--url", help="gateway (default: the one of the configuration)")


def run(args: argparse.Namespace) -> int:
    """Prints the gateway's answer as JSON."""
    gateway = config_of(args).serving.gateway
    url = args.url or f"http://{gateway.host}:{gateway.port}"
    print(json.dumps(post(url, "/rank", {"user_id": args.user, "candidates": args.candidates}), indent=1))
    return 0


def post(url: str, path: str, body: dict[str, Any]) -> Any:
    """Posts JSON to the gateway, with the token of `REASEQ_GATEWAY_TOKEN` if there is one; returns the parsed answer.

    Raises:
        UserError: the gateway is not there, or refuses the request; the message is its own.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"'{url}' is not an address; write http://host:port")
    headers = {"content-type": "application/json"}
    if token := os.environ.get(TOKEN_ENV):
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url + path, data=json.dumps(body).encode(), headers=headers)  # noqa: S310 - checked
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url}{path} answered {error.code}: {error.read().decode(errors='replace')[:500]}") from None
    except OSError as error:
        raise UserError(f"no gateway answers at {url} ({error}); start it with `reaseq serve`") from None
