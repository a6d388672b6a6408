"""`reaseq traffic`: simulated users of the embedded shop ask the gateway for rankings and react to them."""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from reaseq.config_options import add_config_options, load_run_config
from reaseq.rank import post_json

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from simulation.simulated_traffic import TrafficRequest
    from simulation.true_outcomes import RequestBatch

EXAMPLES = {
    "reaseq traffic": "while `reaseq serve` runs: the requests that the demo sends",
    "reaseq traffic --set traffic.num_requests=5000": "more of them, for narrower intervals of the lift",
}
TRUTH_FILE = "traffic_truth.parquet"
"""In the run's folder: arm, expected clicks, orders and GMV of each served page, without any luck."""
_NUM_CLIENTS = 4
add_arguments = add_config_options


def run_verb(arguments: argparse.Namespace) -> int:
    """Sends the configured number of requests and prints what came of them."""
    run_config = load_run_config(arguments)
    gateway = run_config.serving.gateway
    print(send_traffic(run_config, f"http://{gateway.host}:{gateway.port}"))
    return 0


def send_traffic(run_config: "RunConfig", url: str) -> str:
    """Sends simulated requests and reactions through a gateway. Returns a line on what happened.

    Beside the gateway's log lies what only a simulation knows: what the served pages were worth
    (`TRUTH_FILE`).

    Raises:
        UserError: there is no simulated shop, or the gateway does not answer.
    """
    from pipelines.run_data import locate_shop_folder
    from serving.deployment.routes import read_routes
    from simulation.simulated_traffic import TrafficSimulator

    simulator = TrafficSimulator(locate_shop_folder(run_config.home), run_config.traffic)
    requests = list(simulator.iter_requests())
    # The same visits are sent after every deployment: their names in the log must differ.
    id_prefix = f"r{read_routes(run_config.home / 'serving').revision}-"

    def send_visit(request: "TrafficRequest") -> "ServedVisit":
        request_id = id_prefix + request.request_id
        body = {
            "user_id": request.user_id,
            "candidates": list(request.candidate_item_ids),
            "limit": run_config.shop.page_size,
            "request_id": request_id,
            "context": {"timestamp": request.timestamp.isoformat(), **request.context},
        }
        answer = post_json(url, "/rank", body)
        ranked_ids = [item["item_id"] for item in answer["items"]]
        outcomes = simulator.simulate_reaction(request, ranked_ids).with_columns(
            request_id=pl.lit(request_id)
        )
        if reactions := _list_reactions(outcomes):
            post_json(url, "/events", {"events": reactions})
        num_clicks, num_orders = int(outcomes["click"].sum()), int(outcomes["order"].sum())
        return ServedVisit(request.request_id, answer["arm"], ranked_ids, num_clicks, num_orders)

    with ThreadPoolExecutor(_NUM_CLIENTS) as pool:
        visits = list(pool.map(send_visit, requests))
    truth = judge_served_pages(simulator.batch, visits, run_config.shop.page_size)
    truth.write_parquet(run_config.home / TRUTH_FILE)
    num_clicks = sum(visit.num_clicks for visit in visits)
    num_orders = sum(visit.num_orders for visit in visits)
    return f"{len(requests):,} simulated requests: {num_clicks:,} clicks, {num_orders:,} orders"


class ServedVisit(NamedTuple):
    """A visit and the page that it got."""

    request_id: str
    arm: str
    ranked_ids: list[str]
    num_clicks: int
    num_orders: int


def judge_served_pages(batch: "RequestBatch", visits: Sequence[ServedVisit], page_size: int) -> pl.DataFrame:
    """What the served pages were worth by the simulator's own probabilities, one row per page."""
    from simulation.true_outcomes import expected_outcomes, locate_slots

    rankings = {visit.request_id: visit.ranked_ids for visit in visits}
    expected = expected_outcomes(batch, locate_slots(batch, rankings, page_size))
    arms = {visit.request_id: visit.arm for visit in visits}
    return pl.DataFrame(
        {
            "request_id": batch.request_ids.tolist(),
            "arm": [arms[request_id] for request_id in batch.request_ids.tolist()],
            **expected._asdict(),
        }
    )


def _list_reactions(outcomes: pl.DataFrame) -> list[dict[str, object]]:
    """The clicks and orders of a page, as `/events` takes them."""
    shown_items = outcomes.with_columns(pl.col("timestamp").dt.strftime("%+"))
    common_columns = ("user_id", "item_id", "request_id", "timestamp")
    clicks = shown_items.filter("click").select(common_columns).with_columns(event_type=pl.lit("click"))
    orders = (
        shown_items.filter("order")
        .select(*common_columns, price="revenue")
        .with_columns(event_type=pl.lit("order"))
    )
    return [*clicks.to_dicts(), *orders.to_dicts()]
