"""`reaseq submit`: sends a pipeline to Kubeflow, once or on a schedule."""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.errors import UserError
from reaseq.options import add_config_options, config_of

SCHEDULED_TIME = "[[ScheduledTime]]"
"""Kubeflow's placeholder in the parameters of a recurring run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--host", required=True, metavar="URL", help="address of the Pipelines API")
    parser.add_argument("--pipeline", default="train_and_deploy", help="which one (default: train_and_deploy)")
    parser.add_argument("--namespace", help="your profile's namespace, on a multi-user cluster")
    parser.add_argument("--experiment", default="reaseq", help="experiment to run in (default: reaseq)")
    parser.add_argument("--package", type=Path, help="compiled package (default: the one compiled with this version)")
    parser.add_argument("--data-version", help="names the state of data that only the cluster can read")
    parser.add_argument("--schedule", metavar="CRON", help="six fields, seconds first, UTC: '0 30 3 * * *'")
    parser.add_argument(
        "--artifact",
        action="append",
        default=[],
        metavar="NAME=URI",
        help="artifact of an earlier run that the pipeline goes on from (may be given several times)",
    )
    parser.add_argument("--act", action="store_true", help="let `monitor` carry its decision out")
    parser.add_argument("--no-deploy", dest="deploy", action="store_false", help="train and evaluate only")
    parser.add_argument("--wait", action="store_true", help="return when the run has ended")


def run(args: argparse.Namespace) -> int:
    """Submits or schedules; prints the page of the run."""
    from pipelines.arguments import cluster_arguments
    from pipelines.compile import COMPILED
    from pipelines.schedule import schedule
    from pipelines.submit import submit

    if args.schedule and args.wait:
        raise UserError("--wait makes no sense with --schedule; leave one out")
    config = config_of(args)
    package = args.package or COMPILED / f"{args.pipeline}.yaml"
    arguments = cluster_arguments(
        package,
        config,
        data_version=args.data_version,
        artifacts=dict(_pair(text) for text in args.artifact),
        choices={"deploy": args.deploy, "act": args.act},
    )
    where: dict[str, Any] = {"host": args.host, "namespace": args.namespace, "experiment": args.experiment}
    name = f"{config.name}-{args.pipeline}".replace("_", "-")
    where["pipeline_name"] = args.pipeline.replace("_", "-")
    if args.schedule:
        if "data_digest" in arguments:
            # Each scheduled run reads the data anew: Kubeflow puts its time here, so no step is taken from the cache.
            arguments["data_digest"] = SCHEDULED_TIME
        print(schedule(package, arguments, schedule_name=name, cron=args.schedule, **where).url)
        return 0
    run_name = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    submitted = submit(package, arguments, run_name=run_name, wait=args.wait, **where)
    print(f"{submitted.state}: {submitted.url}")
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, separator, uri = text.partition("=")
    if not separator or not name or not uri:
        raise UserError(f"'{text}' is not an artifact; write NAME=URI, as in item_embeddings=s3://bucket/path")
    return name, uri
