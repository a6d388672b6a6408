"""`reaseq submit`: sends a pipeline to Kubeflow, once or on a schedule."""

import argparse
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.errors import UserError
from reaseq.cluster_options import add_cluster_options
from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq submit --host https://kubeflow.example/pipeline --namespace me --pipeline simulate_shop": (
        "write the embedded shop into the cluster's workspace, to try it out"
    ),
    "reaseq submit --host https://kubeflow.example/pipeline --namespace me --wait": "train and deploy",
    "reaseq submit --host https://kubeflow.example/pipeline --namespace me --pipeline refresh_users "
    "--schedule '0 30 3 * * *'": "each night: what users did since",
    "reaseq submit --host https://kubeflow.example/pipeline --namespace me --pipeline change_routes "
    "--action retire --arm treatment --wait": "end an arm that does harm",
}


_EXIT_CODES = {"FAILED": 1, "CANCELED": 3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    add_cluster_options(parser)
    parser.add_argument("--pipeline", help="which one (default: that of --package, else train_and_deploy)")
    parser.add_argument(
        "--package", type=Path, help="compiled package (default: the one compiled with this version)"
    )
    parser.add_argument("--schedule", metavar="CRON", help="six fields, seconds first, UTC: '0 30 3 * * *'")
    parser.add_argument(
        "--act", action="store_true", help="let `monitor` carry its decision out: promote, roll back, retrain"
    )
    parser.add_argument("--no-deploy", dest="deploy", action="store_false", help="train and evaluate only")
    routes = parser.add_argument_group("of `change_routes`; canary, promote and rollback set them")
    routes.add_argument(
        "--action",
        default="show",
        choices=("canary", "rollback", "promote", "retire", "show"),
        help="what is done (default: %(default)s)",
    )
    routes.add_argument(
        "--arm", default="treatment", help="arm to try on, promote or retire (default: %(default)s)"
    )
    routes.add_argument("--ranker", default="", help="the canary: its name, or the address of its artifact")
    routes.add_argument("--share", type=float, default=0.0, help="of the arm's users that the canary answers")
    parser.add_argument(
        "--wait", action="store_true", help="return when the run has ended: 0 succeeded, 1 failed, 3 canceled"
    )


def describe_route_change(
    action: str, *, arm: str = "", ranker: str = "", share: float = 0.0
) -> dict[str, bool | str | float]:
    """The words of `change_routes`; a ranker with an address is fetched by the pipeline.

    Raises:
        UserError: the step would refuse them, after minutes.
    """
    if not 0 <= share <= 1:
        raise UserError(f"share {share:g} must lie between 0, nobody, and 1, all of the arm's users")
    if action in {"canary", "promote", "retire"} and not arm.strip():
        raise UserError(f"{action} needs an arm; `reaseq status` tells which there are")
    if re.search(r"\s", ranker):
        raise UserError(f"ranker '{ranker}' is neither a name nor an address: it holds a blank")
    is_address = "://" in ranker
    return {
        "action": action,
        "arm": arm,
        "ranker": "" if is_address else ranker,
        "ranker_uri": ranker if is_address else "",
        "share": share,
    }


def run_verb(arguments: argparse.Namespace) -> int:
    """Submits or schedules a run and prints its page."""
    switches = {"deploy": arguments.deploy, "act": arguments.act, "train": arguments.act}
    route_change = describe_route_change(
        arguments.action, arm=arguments.arm, ranker=arguments.ranker, share=arguments.share
    )
    given = {
        "act": "--act" if arguments.act else "",
        "deploy": "" if arguments.deploy else "--no-deploy",
        "action": "" if arguments.action == "show" else "--action",
        "ranker": "--ranker" if arguments.ranker else "",
        "share": "--share" if arguments.share else "",
    }
    return submit_choices(arguments, switches | route_change, given=given)


def submit_choices(
    arguments: argparse.Namespace,
    choices: Mapping[str, bool | str | float],
    *,
    given: Mapping[str, str] | None = None,
) -> int:
    """Submits or schedules a run with these switches and words, and prints its page.

    Args:
        arguments: cluster, configuration, pipeline and package.
        choices: values of the pipeline's parameters.
        given: parameter -> the option by which somebody asked for it; an empty one counts for nothing.
    """
    from pipelines.cluster.cluster_settings import require_cluster_settings
    from pipelines.cluster.recurring_run import schedule_pipeline
    from pipelines.cluster.submit_run import submit_pipeline
    from pipelines.compiled_package import COMPILED_FOLDER, read_package
    from pipelines.run_arguments import build_cluster_arguments

    if arguments.schedule and arguments.wait:
        raise UserError("--wait makes no sense with --schedule; leave one out")
    run_config = load_run_config(arguments)
    pipeline = arguments.pipeline or "train_and_deploy"
    package_path = arguments.package or COMPILED_FOLDER / f"{pipeline}.yaml"
    package = read_package(package_path)
    # Else it would run under the other's name, and its versions would lie among those of the other.
    if arguments.pipeline and package.name != pipeline.replace("_", "-"):
        raise UserError(f"{package_path} holds '{package.name}', not '{pipeline}'; leave --pipeline out")
    unused = [option for name, option in (given or {}).items() if option and name not in package.parameters]
    if unused:
        raise UserError(f"{', '.join(unused)} means nothing to '{package.name}'; leave it out")
    run_parameters = build_cluster_arguments(package_path, run_config, choices=choices)
    require_cluster_settings(run_config, run_parameters)
    run_name = f"{run_config.name}-{package.name}"
    destination: dict[str, Any] = {
        "host": arguments.host,
        "namespace": arguments.namespace,
        "experiment": arguments.experiment,
        "pipeline_name": package.name,
    }
    if arguments.schedule:
        schedule = schedule_pipeline(
            package_path, run_parameters, schedule_name=run_name, cron=arguments.schedule, **destination
        )
        if schedule.is_waiting:
            print(f"not replaced yet: a run of {schedule.url} is under way; say this again once it has ended")
            return 1
        print(f"{'scheduled' if schedule.is_new else 'unchanged'}: {schedule.url}")
        return 0
    run_name += f"-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    submitted_run = submit_pipeline(
        package_path, run_parameters, run_name=run_name, wait=arguments.wait, **destination
    )
    if submitted_run.is_adopted:
        print("the same pipeline with the same arguments is under way already; no second run was made")
    print(f"{submitted_run.state}: {submitted_run.url}")
    return _EXIT_CODES.get(submitted_run.state, 0) if arguments.wait else 0
