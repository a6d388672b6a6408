"""`reaseq experiment`: how many users and days it takes to see a lift, told from the log."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from reaseq.config_options import add_config_options, load_run_config

if TYPE_CHECKING:
    from monitoring.lift.experiment_plan import MetricPlan

EXAMPLES = {
    "reaseq experiment plan": "users and days for a lift of 3 %, per metric",
    "reaseq experiment plan --lift 0.01 --days 14 28": "a smaller lift, two and four weeks",
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


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints a table per length, and what its columns mean."""
    run_config = load_run_config(arguments)
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
    print(
        "\nA lift is seen in 80 of 100 tests of a fixed length (`monitoring.decide_by=fixed_horizon`).\n"
        "Looking all the time (`sequential`, the default) takes more than twice as many users."
    )
