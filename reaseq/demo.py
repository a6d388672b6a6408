"""`reaseq demo`: everything once, on the embedded shop: pipeline, servers, a ranking, A/B traffic, reports."""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from reaseq.options import add_config_options, config_of
from reaseq.resources import PeakMemory

if TYPE_CHECKING:
    from pipelines.config import RunConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--setup-s", type=float, metavar="S", help="seconds that the set-up took, for the summary")
    parser.add_argument("--figures", type=Path, metavar="FILE", help="write set-up, run time and memory as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the whole; returns 1 when the gate did not let the ranker pass."""
    config = config_of(args)
    started_s = time.monotonic()
    with PeakMemory() as memory:
        if not _pass(config):
            return 1
        figures = {"setup_s": args.setup_s, "run_s": time.monotonic() - started_s, "peak_rss_gib": memory.gib}
    setup = f"set-up {args.setup_s:.0f} s, " if args.setup_s is not None else ""
    print(
        f"\ntime: {setup}main job {figures['run_s']:.0f} s; peak memory {memory.gib:.2f} GiB (all processes together)"
    )
    print(
        "open the dashboard: make dashboard   serve again: make serve   then ask: "
        ".venv/bin/reaseq rank --user u000001 --candidates i00001 i00002 i00003"
    )
    if args.figures:
        args.figures.write_text(json.dumps({k: v for k, v in figures.items() if v is not None}), encoding="utf-8")
    return 0


def _pass(config: "RunConfig") -> bool:
    from reaseq.report import print_reports
    from reaseq.run import print_evaluation
    from reaseq.running import is_promoted, run_pipeline

    with _stage(f"1/4  pipeline on '{config.name}' (whole log: {config.home / 'run.log'})"):
        artifacts = run_pipeline(config, "train_and_deploy", deploy=True)
    print_evaluation(artifacts["evaluation"])
    if not is_promoted(artifacts["evaluation"]):
        print("the gate did not let the ranker pass: nothing was deployed")
        return False
    with _stage("2/4  Triton and the gateway: one ranking request, then A/B traffic of simulated users"):
        _serve(config)
    with _stage("3/4  drift and lift"):
        reports = run_pipeline(config, "monitor", act=False)
    with _stage("4/4  what was built"):
        _print_artifacts(artifacts)
        print_reports(reports)
    return True


def _serve(config: "RunConfig") -> None:
    from pipelines.data import shop_folder
    from reaseq.rank import post
    from reaseq.traffic import send_traffic
    from serving.local import LocalStack
    from simulation.traffic import TrafficSimulator

    request = next(TrafficSimulator(shop_folder(config.home), config.traffic).requests())
    candidates = list(request.candidate_item_ids)
    context = {"timestamp": request.timestamp.isoformat()}
    with LocalStack(config.serving.at(config.home / "serving")) as stack:
        body = {"user_id": request.user_id, "candidates": candidates, "limit": 5, "context": context}
        answer = post(stack.url, "/rank", body)
        print(f"POST {stack.url}/rank  user {request.user_id}, {len(candidates)} candidates")
        print(json.dumps(answer, indent=1))
        print(send_traffic(config, stack.url))


def _print_artifacts(artifacts: dict[str, Path]) -> None:
    from contracts.artifacts import read_lineage
    from pipelines.train_and_deploy import Artifacts

    for name in Artifacts._fields:
        lineage = read_lineage(artifacts[name])
        shown = [f"{key} {value:,.4g}" for key, value in sorted(lineage.metrics.items()) if "." not in key][:6]
        print(f"  {name:20s} {', '.join(shown)}")


@contextmanager
def _stage(title: str) -> Iterator[None]:
    print(f"\n== {title}", flush=True)
    yield
