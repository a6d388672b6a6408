"""`reaseq rank`: sends one ranking request to the gateway and prints the answer."""

import argparse
import json
import os
import urllib.error
import urllib.request
from typing import Any

from contracts.errors import UserError
from contracts.tables import SCENES
from reaseq.config_options import add_config_options, load_run_config
from serving.config import TOKEN_ENV

EXAMPLES = {
    "reaseq rank --user u000001 --candidates i00001 i00002 i00003": "while `reaseq serve` runs",
    "reaseq rank --user u000001 --scene search --query tent --candidates i00001 i00002": "on a search page",
    "reaseq rank --url http://gateway.example:3000 --user 42 --candidates sku-1 sku-2": "a gateway elsewhere",
}
_TIMEOUT_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--user", required=True, help="user id")
    parser.add_argument("--candidates", nargs="+", required=True, metavar="ITEM", help="item ids to rank")
    parser.add_argument("--scene", choices=SCENES, help="where the page is shown")
    parser.add_argument("--category", metavar="PATH", help="category path of the page: 'A > B > C'")
    parser.add_argument("--query", help="what was searched for")
    parser.add_argument("--seed-item", metavar="ITEM", help="the item that the page is about")
    parser.add_argument("--device", help="kind of device")
    parser.add_argument("--url", help="gateway (default: the one of the configuration)")


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints the gateway's answer as JSON."""
    gateway = load_run_config(arguments).serving.gateway
    gateway_url = arguments.url or f"http://{gateway.host}:{gateway.port}"
    context = {
        "scene": arguments.scene,
        "page_category": arguments.category,
        "query": arguments.query,
        "seed_item_id": arguments.seed_item,
        "device": arguments.device,
    }
    rank_body = {"user_id": arguments.user, "candidates": arguments.candidates, "context": context}
    print(json.dumps(post_json(gateway_url, "/rank", rank_body), indent=1))
    return 0


def post_json(url: str, path: str, body: dict[str, Any]) -> Any:
    """Posts JSON to the gateway and returns its answer. `REASEQ_GATEWAY_TOKEN` holds the token, if any.

    Raises:
        UserError: the gateway is not there, or refuses the request; the message is its own.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"'{url}' is not an address; write http://host:port")
    headers = {"content-type": "application/json"}
    if token := os.environ.get(TOKEN_ENV):
        headers["authorization"] = f"Bearer {token}"
    request_body = json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=request_body, headers=headers)  # noqa: S310 - checked
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            return json.load(response)
    except urllib.error.HTTPError as error:
        answer_text = error.read().decode(errors="replace")[:500]
        raise UserError(f"{url}{path} answered {error.code}: {answer_text}") from None
    except OSError as error:
        raise UserError(f"no gateway answers at {url} ({error}); start it with `reaseq serve`") from None
