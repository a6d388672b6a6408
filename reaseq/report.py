"""`reaseq report`: writes the drift and lift reports of what was served, and the decision that follows."""

import argparse
import json
from pathlib import Path

from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq report": "drift, lift and what they advise",
    "reaseq report --act": "carry the advice out, too",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--act", action="store_true", help="carry it out (promote, roll back, retrain)")


def run_verb(arguments: argparse.Namespace) -> int:
    """Runs the monitor pipeline. Prints the decision and where the pages lie."""
    from monitoring.decision_rule import Decision
    from reaseq.local_runs import run_pipeline
    from reaseq.retraining import retrain_if_due

    run_config = load_run_config(arguments)
    # The training is a run of its own here, so that what it deploys is found by the next commands.
    artifacts = run_pipeline(run_config, "monitor", act=arguments.act, train=False)
    print_reports(artifacts)
    print("dashboard:    .venv/bin/reaseq dashboard")
    if arguments.act:
        retrain_if_due(
            run_config, Decision.model_validate_json(artifacts["decision"].read_text(encoding="utf-8"))
        )
    return 0


_METRIC_NAMES = {
    "ipv_per_user": ("item pages viewed per user (IPV)", "clicks"),
    "ctr": ("click-through rate", "clicks"),
    "orders_per_user": ("orders per user", "orders"),
    "conversion": ("users who ordered", ""),
    "gmv_per_user": ("sales per user (GMV)", "gmv"),
}
"""Metric -> its name in words, and the column of the simulation's truth of a page that tells the same."""


def print_experiment(lift_report: Path, truth_file: Path) -> None:
    """Prints each arm against the control in words: what was measured, and what the simulation knows.

    Args:
        lift_report: the folder of the lift report.
        truth_file: what `reaseq traffic` wrote of the served pages; it may be missing.
    """
    import polars as pl

    from reaseq.run_summary import print_table

    results = json.loads((lift_report / "lift.json").read_text(encoding="utf-8"))
    control, shares = results["control"], f"{results['confidence']:.0%}"
    values = {(row["arm"], row["metric"]): row for row in results["rows"]}
    truth = pl.read_parquet(truth_file) if truth_file.is_file() else None
    page_worth = (
        {}
        if truth is None
        else {
            row["arm"]: row
            for row in truth.group_by("arm").agg(pl.col("clicks", "orders", "gmv").mean()).to_dicts()
        }
    )
    for arm in sorted({arm for arm, _ in values} - {control}):
        rows = []
        titles = results.get("titles", {})
        told_metrics = [metric for metric in {**_METRIC_NAMES, **titles} if (arm, metric) in values]
        for metric in told_metrics:
            name, column = _METRIC_NAMES.get(metric) or (titles[metric], "")
            ours, theirs = values[arm, metric], values[control, metric]
            # Reports of older versions tell no other interval.
            lift = ours.get("deciding", ours["relative"])
            true_lift = "-"
            if column and {arm, control} <= page_worth.keys() and page_worth[control][column]:
                true_lift = f"{page_worth[arm][column] / page_worth[control][column] - 1:+.1%}"
            rows.append(
                (
                    name,
                    _format_number(theirs["value"]["value"]),
                    _format_number(ours["value"]["value"]),
                    _format_lift(lift),
                    _judge_lift(lift, ours.get("detectable")),
                    true_lift,
                )
            )
        users = results["srm"]["users"]
        print(
            f"\n{results['traffic']}: arm '{arm}' ({users[arm]:,} users) against '{control}' "
            f"({users[control]:,} users)"
        )
        header = ("metric", control, arm, f"measured change [{shares} interval]", "so", "true change a page")
        print_table(header, rows)
    without_price = {arm: count for arm, count in results.get("orders_without_price", {}).items() if count}
    if without_price:
        counts = ", ".join(f"{arm} {count:,}" for arm, count in without_price.items())
        print(f"orders that came without a price, and count at the catalogue's: {counts}")
    if page_worth:
        print(
            "true change: what the shown pages were worth by the simulation's own probabilities, without luck"
        )


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _format_lift(lift: dict[str, float | None]) -> str:
    value, low, high = (
        "?" if lift[bound] is None else f"{lift[bound]:+.1%}" for bound in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def _judge_lift(lift: dict[str, float | None], detectable: float | None) -> str:
    """What the interval says, and what the test could have seen where it says nothing."""
    if lift["low"] is not None and lift["low"] > 0:
        return "surely more"
    if lift["high"] is not None and lift["high"] < 0:
        return "surely less"
    return "too close to tell" + ("" if detectable is None else f" (sees {detectable:.1%} and more)")


def print_reports(artifacts: dict[str, Path]) -> None:
    """Prints the decision with its reasons, and where the pages lie."""
    decision = json.loads(artifacts["decision"].read_text(encoding="utf-8"))
    print(f"decision on {decision['traffic']}: {decision['action']} {decision['arm'] or ''}")
    print("\n".join(f"  - {reason}" for reason in decision["reasons"]))
    print(f"drift report: {artifacts['drift'] / 'report.html'}")
    print(f"lift report:  {artifacts['lift'] / 'report.html'}")
    if "dashboard" in artifacts:
        print(f"all on one page: {artifacts['dashboard'] / 'dashboard.html'}")
