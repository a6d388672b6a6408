"""`reaseq experiment`: plan an experiment from the log, start it, watch it, end it."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import UserError
from reaseq.cluster_routes import add_route_options, run_on_cluster
from reaseq.config_options import add_config_options, load_run_config

if TYPE_CHECKING:
    import polars as pl

    from monitoring.lift.experiment_plan import MetricPlan
    from pipelines.config import RunConfig
    from serving.experiments.experiment_order import ExperimentOrder

EXAMPLES = {
    "reaseq experiment plan": "users and days for a lift of 3 %, per metric",
    "reaseq experiment plan --lift 0.01 --days 14 28": "a smaller lift, two and four weeks",
    "reaseq experiment start --arm treatment=path/to/ranker --share treatment=0.1 --days 14": (
        "a new ranker for a tenth of the users"
    ),
    "reaseq experiment start --aa --days 7": "the control's ranker in both arms: does the test itself hold?",
    "reaseq experiment start --interleave --arm treatment=path/to/ranker --share interleaved=0.2": (
        "both rankers share each page of a fifth of the users"
    ),
    "reaseq experiment status": "how far it is, and whether the split is as intended",
    "reaseq experiment stop --keep treatment": "the challenger answers everybody from now on",
    "reaseq experiment start --arm treatment=s3://mlpipeline/v2/artifacts/challenger --share treatment=0.1 "
    "--config configs/cluster.yaml --host https://kubeflow.example/pipeline --namespace me": (
        "on a cluster: an artifact of a run"
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    action_parsers = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    plan_action = action_parsers.add_parser("plan", help="print which lifts an experiment could see")
    plan_action.add_argument(
        "--lift", type=float, default=0.03, help="relative lift to be seen (default: %(default)s, 3 %%)"
    )
    plan_action.add_argument(
        "--days", type=int, nargs="+", default=[7, 14, 28], help="lengths in days (default: 7 14 28)"
    )
    plan_action.add_argument(
        "--dataset", type=Path, metavar="DIR", help="dataset artifact (default: the run's)"
    )
    add_config_options(plan_action)
    start_action = action_parsers.add_parser("start", help="route the arms, and write down the plan")
    start_action.add_argument(
        "--arm",
        action="append",
        default=[],
        metavar="NAME=RANKER",
        help="an arm's ranker: a folder, or the name of one that was deployed (default: the arms of now)",
    )
    start_action.add_argument(
        "--share",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="an arm's share of the users; the control takes the rest (default: equal shares)",
    )
    start_action.add_argument("--aa", action="store_true", help="the control's ranker in both arms")
    start_action.add_argument(
        "--interleave", action="store_true", help="both rankers on each page: sees a better one sooner"
    )
    start_action.add_argument(
        "--days", type=float, default=14.0, help="planned length (default: %(default)g)"
    )
    start_action.add_argument("--users", type=int, help="planned users, all arms together")
    start_action.add_argument("--metric", help="the metric that decides (default: monitoring.primary_metric)")
    _add_audit_options(start_action)
    status_action = action_parsers.add_parser("status", help="print how far the experiment is")
    add_config_options(status_action)
    add_route_options(status_action, pipeline="run_experiment")
    stop_action = action_parsers.add_parser("stop", help="end the experiment")
    stop_action.add_argument(
        "--keep", default="control", help="arm whose ranker answers from now on (default: %(default)s)"
    )
    _add_audit_options(stop_action)


def _add_audit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", metavar="WHO", help="who does it (default: your account on this machine)")
    parser.add_argument("--note", default="", help="why, for the audit log")
    add_config_options(parser)
    add_route_options(parser, pipeline="run_experiment")


def run_verb(arguments: argparse.Namespace) -> int:
    """Does what the action says."""
    run_config = load_run_config(arguments)
    actions = {"plan": run_plan, "start": run_start, "status": run_status, "stop": run_stop}
    return actions[arguments.action](arguments, run_config)


def run_start(arguments: argparse.Namespace, run_config: "RunConfig") -> int:
    """Starts an experiment and prints its record."""
    if not 0 < arguments.days < math.inf or (arguments.users is not None and arguments.users < 1):
        raise UserError("--days and --users must be numbers above 0")
    rankers = dict(_parse_pair(text, "--arm", "NAME=RANKER") for text in arguments.arm)
    order = {
        "rankers": rankers,
        "shares": {arm: _parse_share(arm, share) for arm, share in _parse_shares(arguments.share)},
        "planned_days": arguments.days,
        "planned_users": arguments.users,
        "deciding_metric": arguments.metric,
        "is_aa": arguments.aa,
        "interleaving": arguments.interleave,
    }
    return _carry_out(arguments, run_config, order)


def run_stop(arguments: argparse.Namespace, run_config: "RunConfig") -> int:
    """Ends the running experiment and prints what was kept."""
    return _carry_out(arguments, run_config, {"keep": arguments.keep})


def run_status(arguments: argparse.Namespace, run_config: "RunConfig") -> int:
    """Prints how far the experiment is. No lift: that is for the day that was planned."""
    return _carry_out(arguments, run_config, {})


def _carry_out(arguments: argparse.Namespace, run_config: "RunConfig", wishes: dict[str, Any]) -> int:
    """Does it here and prints what came of it, or sends it to a cluster."""
    from serving.experiments.experiment_order import ExperimentOrder
    from serving.experiments.run_experiment import name_current_user

    # A look at the experiment is signed, too, though no log has it.
    by, note = getattr(arguments, "by", None) or name_current_user(), getattr(arguments, "note", "")
    order = ExperimentOrder.model_validate({"action": arguments.action, "by": by, "note": note, **wishes})
    if arguments.host:
        order, ranker_uri = _take_address(order)
        choices = {"order": order.model_dump_json(), "ranker_uri": ranker_uri}
        return run_on_cluster(arguments, "run_experiment", choices)
    # Its reports take seconds to import.
    from components.experiment_order import carry_out_order

    state = run_config.home / "serving"
    items = _read_catalogue(run_config) if order.action == "status" else None
    print(carry_out_order(order, run_config.serving, run_config.monitoring, state=state, items=items))
    return 0


def _take_address(order: "ExperimentOrder") -> "tuple[ExperimentOrder, str]":
    """The order with a word for the one ranker that has an address, and that address, which is fetched."""
    from serving.experiments.experiment_order import ARTIFACT

    addresses = {arm: ranker for arm, ranker in order.rankers.items() if "://" in ranker}
    if len(addresses) > 1:
        raise UserError(
            f"arms {', '.join(addresses)} name artifacts; one is fetched for an experiment, the others must "
            "have been deployed before (`reaseq status --gateway` names them)"
        )
    for arm, address in addresses.items():
        return order.model_copy(update={"rankers": order.rankers | {arm: ARTIFACT}}), address
    return order, ""


def _read_catalogue(run_config: "RunConfig") -> "pl.DataFrame | None":
    """Its prices stand in for orders without one; before any run there is none."""
    from contracts.dataset import read_dataset
    from reaseq.local_runs import find_artifact

    try:
        return read_dataset(find_artifact(run_config, "dataset")).items
    except UserError:
        return None


def _parse_shares(texts: list[str]) -> list[tuple[str, str]]:
    return [_parse_pair(text, "--share", "NAME=SHARE") for text in texts]


def _parse_share(arm: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"the share of '{arm}' is '{text}', which is no number; 0.1 means a tenth") from None


def _parse_pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise UserError(f"{option} '{text}' is not written {form}")
    return name, value


def run_plan(arguments: argparse.Namespace, run_config: "RunConfig") -> int:
    """Prints a table per length, and what its columns mean."""
    from contracts.dataset import read_dataset
    from monitoring.lift.experiment_plan import plan_experiment
    from reaseq.local_runs import find_artifact

    dataset = read_dataset(arguments.dataset or find_artifact(run_config, "dataset"))
    plans = plan_experiment(
        dataset.events, run_config.monitoring, lift=arguments.lift, horizons_days=arguments.days
    )
    print_plans(plans, lift=arguments.lift)
    return 0


def print_plans(plans: "list[MetricPlan]", *, lift: float) -> None:
    """Prints plans as tables, shortest experiment first."""
    from reaseq.run_summary import print_table

    header = (
        "metric",
        "sees a lift of",
        "with CUPED",
        f"users for {lift:+.1%}",
        "with CUPED",
        "enough users",
    )
    for days in sorted({plan.days for plan in plans}):
        own_plans = [plan for plan in plans if plan.days == days]
        print(f"\n{days} days, {max(plan.users for plan in own_plans):,} users in two equal arms")
        print_table(
            header,
            [
                (
                    plan.metric,
                    f"{plan.detectable:.1%}",
                    f"{plan.detectable_with_cuped:.1%}",
                    f"{plan.users_needed:,}",
                    f"{plan.users_needed_with_cuped:,}",
                    "yes" if plan.users_needed <= plan.users else "no",
                )
                for plan in own_plans
            ],
        )
    from monitoring.lift.lift_statistics import plan_sample_ratio_users

    split_users = plan_sample_ratio_users({"control": 0.5, "treatment": 0.5}, arm="treatment", lost=0.01)
    print(
        "\nA lift is seen in 80 of 100 tests of a fixed length (`monitoring.decide_by=fixed_horizon`).\n"
        "Looking all the time (`sequential`, the default) takes more than twice as many users.\n"
        f"An arm that loses 1 % of its users on the way is found out with {split_users:,} users in all."
    )
