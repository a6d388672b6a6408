"""`reaseq schedules`: makes a cluster hold the schedules of a file in git."""

import argparse
from pathlib import Path

import shtab

from reaseq.cluster_options import add_cluster_options

EXAMPLES = {
    "reaseq schedules diff configs/schedules.yaml --host https://kubeflow.example/pipeline --namespace me": (
        "what would be made, replaced, enabled, disabled, deleted"
    ),
    "reaseq schedules apply configs/schedules.yaml --host https://kubeflow.example/pipeline --namespace me "
    "--packages compiled": "do it; the same once more writes nothing",
}
_SIGNS = {"keep": "=", "make": "+", "delete": "-", "wait": "?"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("command", choices=("diff", "apply"), help="say what differs, or mend it")
    file_argument = parser.add_argument("file", type=Path, help="the schedules (YAML)")
    file_argument.complete = shtab.FILE  # type: ignore[attr-defined]
    add_cluster_options(parser, with_experiment=False)
    parser.add_argument(
        "--packages", type=Path, metavar="FOLDER", help="compiled packages (default: the committed ones)"
    )


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints a line for each schedule; 1 where something differs (`diff`) or has to wait (`apply`)."""
    from pipelines.cluster.apply_schedules import apply_schedules, diff_schedules
    from pipelines.cluster.schedule_file import read_schedule_file
    from pipelines.compiled_package import COMPILED_FOLDER

    schedules = read_schedule_file(arguments.file, packages_folder=arguments.packages or COMPILED_FOLDER)
    is_diff = arguments.command == "diff"
    reconcile = diff_schedules if is_diff else apply_schedules
    changes = reconcile(schedules, host=arguments.host, namespace=arguments.namespace)
    for change in changes:
        reasons = f": {'; '.join(change.reasons)}" if change.reasons else ""
        print(f"{_SIGNS.get(change.action, '~')} {change.action:<8} {change.name}{reasons}")
    actions = {change.action for change in changes}
    if not is_diff and "wait" in actions:
        print("a run of what waits is under way; apply again once it has ended")
    return int(bool(actions - {"keep"})) if is_diff else int("wait" in actions)
