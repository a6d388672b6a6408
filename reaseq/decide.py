"""`reaseq decide`: applies the decision rule to the last reports, and changes nothing unless told to."""

import argparse
from pathlib import Path

from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq decide --dry-run": "what the rule says of the last reports",
    "reaseq decide --dry-run --set monitoring.guardrail_margin=0.05": "what a stricter rule would say",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--lift", type=Path, metavar="DIR", help="lift report (default: the last)")
    parser.add_argument("--drift", type=Path, metavar="DIR", help="drift report (default: the last)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--dry-run", action="store_true", help="only print the decision (the default)")
    choice.add_argument("--act", action="store_true", help="carry it out (promote, roll back, retrain)")


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints the decision with its reasons. With `--act`, changes the routes and writes the audit log."""
    run_config = load_run_config(arguments)
    from components.experiment_decision import carry_out_decision, find_planned_test, take_served_plan
    from components.retraining import judge_retraining
    from contracts.errors import UserError
    from monitoring.decision_rule import decide_by_lift_and_drift
    from reaseq.local_runs import read_deployed_artifacts
    from reaseq.retraining import retrain_if_due
    from serving.experiments.audit_log import AUDIT_LOG

    folders = {"lift": arguments.lift, "drift": arguments.drift}
    if None in folders.values():
        artifacts = read_deployed_artifacts(run_config)
        folders = {name: folder or artifacts.get(name) for name, folder in folders.items()}
    missing = [name for name, folder in folders.items() if folder is None]
    if missing:
        raise UserError(f"there is no {' and no '.join(missing)} report yet; `reaseq report` makes them")
    reports = {name: folder / f"{name}.json" for name, folder in folders.items()}
    state = run_config.home / "serving"
    rule = take_served_plan(run_config.monitoring, state=state)
    decision = decide_by_lift_and_drift(
        reports["drift"], reports["lift"], rule, plan=find_planned_test(state)
    )
    decision = judge_retraining(decision, rule, state=state)
    print(f"decision on {decision.traffic}: {decision.action} {decision.arm or ''}".rstrip())
    print("\n".join(f"  - {reason}" for reason in decision.reasons))
    if arguments.act:
        has_acted = carry_out_decision(decision, rule, **reports, act=True, state=state)
        print(f"{'carried out' if has_acted else 'nothing to carry out'}; told in {state / AUDIT_LOG}")
        retrain_if_due(run_config, decision)
    return 0
