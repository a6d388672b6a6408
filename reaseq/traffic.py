"""`reaseq traffic`: simulated users of the embedded shop ask the gateway for rankings and react to them."""

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import polars as pl

from reaseq.options import add_config_options, config_of
from reaseq.rank import post

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from simulation.traffic import TrafficRequest, TrafficSimulator

_CONCURRENCY = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)


def run(args: argparse.Namespace) -> int:
    """Sends the configured number of requests; prints what came of them."""
    config = config_of(args)
    gateway = config.serving.gateway
    print(send_traffic(config, f"http://{gateway.host}:{gateway.port}"))
    return 0


def send_traffic(config: "RunConfig", url: str) -> str:
    """Sends simulated requests and reactions through the gateway at `url`; returns a line on what happened.

    Raises:
        UserError: there is no simulated shop, or the gateway does not answer.
    """
    from pipelines.data import shop_folder
    from serving.routes import read_routes
    from simulation.traffic import TrafficSimulator

    simulator = TrafficSimulator(shop_folder(config.home), config.traffic)
    requests = list(simulator.requests())
    # The same visits are sent after every deployment: their names in the log must differ.
    prefix = f"r{read_routes(config.home / 'serving').revision}-"
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        counts = list(
            pool.map(lambda request: _visit(simulator, request, url, prefix, config.shop.page_size), requests)
        )
    clicks, orders = (sum(column) for column in zip(*counts, strict=True))
    return f"{len(requests):,} simulated requests: {clicks:,} clicks, {orders:,} orders"


def _visit(
    simulator: "TrafficSimulator", request: "TrafficRequest", url: str, prefix: str, page_size: int
) -> tuple[int, int]:
    request_id = prefix + request.request_id
    body = {
        "user_id": request.user_id,
        "candidates": list(request.candidate_item_ids),
        "limit": page_size,
        "request_id": request_id,
        "context": {"timestamp": request.timestamp.isoformat()},
    }
    ranked = [item["item_id"] for item in post(url, "/rank", body)["items"]]
    outcomes = simulator.react(request, ranked).with_columns(request_id=pl.lit(request_id))
    acted = _events(outcomes)
    if acted:
        post(url, "/events", {"events": acted})
    return int(outcomes["click"].sum()), int(outcomes["order"].sum())


def _events(outcomes: pl.DataFrame) -> list[dict[str, object]]:
    named = outcomes.select(pl.exclude("timestamp"), timestamp=pl.col("timestamp").dt.strftime("%+"))
    common = ("user_id", "item_id", "request_id", "timestamp")
    clicks = named.filter("click").select(common).with_columns(event_type=pl.lit("click"))
    orders = named.filter("order").select(*common, price="revenue").with_columns(event_type=pl.lit("order"))
    return [*clicks.to_dicts(), *orders.to_dicts()]
