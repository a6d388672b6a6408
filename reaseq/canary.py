"""`reaseq canary`: lets a new ranker answer a share of an arm's users."""

import argparse
from pathlib import Path

import shtab

from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq canary new-ranker --share 0.05": "5 % of the control arm's users",
    "reaseq canary new-ranker --share 1": "all of them: the trial went well",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    ranker_argument = parser.add_argument("ranker", type=Path, help="folder of the new ranker artifact")
    ranker_argument.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    parser.add_argument("--arm", default="control", help="whose users (default: %(default)s)")
    parser.add_argument(
        "--share", type=float, required=True, help="of the arm's users; 1 ends the trial well, 0 badly"
    )


def run_verb(arguments: argparse.Namespace) -> int:
    """Checks the ranker on its golden rows, then changes the routes."""
    from serving.experiments.canary import start_canary

    run_config = load_run_config(arguments)
    state_folder = run_config.home / "serving"
    print(
        start_canary(
            arguments.ranker,
            run_config.serving,
            state=state_folder,
            arm=arguments.arm,
            share=arguments.share,
        )
    )
    return 0
