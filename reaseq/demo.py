"""`reaseq demo`: pipeline, servers, a ranking, A/B traffic and reports, once, on the embedded shop."""

import argparse
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from reaseq.config_options import add_config_options, load_run_config
from reaseq.peak_memory import PeakMemory

if TYPE_CHECKING:
    from pipelines.config import RunConfig

EXAMPLES = {
    "reaseq demo": "everything, with every default (about eight minutes on two cores)",
    "reaseq demo --set name=small --set shop.num_items=300 --set shop.num_users=500": (
        "a smaller shop, in a folder of its own; so little data may not pass the gate"
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument(
        "--setup-s", type=float, metavar="S", help="seconds that the set-up took, for the summary"
    )
    parser.add_argument(
        "--figures", type=Path, metavar="FILE", help="write set-up, run time and memory as JSON"
    )


def run_verb(arguments: argparse.Namespace) -> int:
    """Runs the whole. Returns 1 when the gate did not let the ranker pass."""
    run_config = load_run_config(arguments)
    started_s = time.monotonic()
    with PeakMemory() as memory:
        if not _run_all_stages(run_config):
            return 1
        figures = {"run_s": time.monotonic() - started_s, "peak_rss_gib": memory.peak_gib}
    setup_text = ""
    if arguments.setup_s is not None:
        figures["setup_s"] = arguments.setup_s
        setup_text = f"set-up {arguments.setup_s:.0f} s, "
    memory_text = f"peak memory {memory.peak_gib:.2f} GiB (all processes together)"
    print(f"\ntime: {setup_text}main job {figures['run_s']:.0f} s; {memory_text}")
    print(
        "open the dashboard: make dashboard   serve again: make serve   then ask: "
        ".venv/bin/reaseq rank --user u000001 --candidates i00001 i00002 i00003"
    )
    if arguments.figures:
        arguments.figures.write_text(json.dumps(figures), encoding="utf-8")
    return 0


def _run_all_stages(run_config: "RunConfig") -> bool:
    from reaseq.local_runs import is_promoted, run_pipeline
    from reaseq.report import print_experiment, print_reports
    from reaseq.run_summary import print_artifacts, print_evaluation
    from reaseq.traffic import TRUTH_FILE

    _print_stage(f"1/4  pipeline on '{run_config.name}' (whole log: {run_config.home / 'run.log'})")
    artifacts = run_pipeline(run_config, "train_and_deploy", deploy=True)
    print_evaluation(artifacts["evaluation"])
    if not is_promoted(artifacts["evaluation"]):
        print("the gate did not let the ranker pass: nothing was deployed")
        return False
    _print_stage("2/4  Triton and the gateway: one ranking request, then A/B traffic of simulated users")
    _serve_traffic(run_config)
    _print_stage("3/4  drift and lift")
    reports = run_pipeline(run_config, "monitor", act=False, train=False)
    _print_stage("4/4  what was built")
    print_artifacts(artifacts)
    print_reports(reports)
    print_experiment(reports["lift"], run_config.home / TRUTH_FILE)
    return True


def _serve_traffic(run_config: "RunConfig") -> None:
    from pipelines.run_data import locate_shop_folder
    from reaseq.rank import post_json
    from reaseq.traffic import send_traffic
    from serving.deployment.local_stack import LocalStack
    from simulation.simulated_traffic import TrafficSimulator

    simulator = TrafficSimulator(locate_shop_folder(run_config.home), run_config.traffic)
    request = next(simulator.iter_requests())
    # A moment before the visit itself, which the traffic sends: nobody opens two pages at once.
    asked_at = request.timestamp - timedelta(seconds=1)
    rank_body = {
        "user_id": request.user_id,
        "candidates": list(request.candidate_item_ids),
        "limit": 5,
        "context": {"timestamp": asked_at.isoformat(), **request.context},
    }
    with LocalStack(run_config.serving.in_folders(run_config.home / "serving")) as stack:
        rank_answer = post_json(stack.url, "/rank", rank_body)
        num_candidates = len(request.candidate_item_ids)
        print(f"POST {stack.url}/rank  user {request.user_id}, {num_candidates} candidates")
        print(json.dumps(rank_answer, indent=1))
        print(send_traffic(run_config, stack.url))


def _print_stage(title: str) -> None:
    print(f"\n== {title}", flush=True)
