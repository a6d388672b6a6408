"""`reaseq canary`: lets a new ranker answer a share of an arm's users."""

import argparse
from pathlib import Path

from reaseq.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("ranker", type=Path, help="folder of the new ranker artifact")
    parser.add_argument("--arm", default="control", help="whose users (default: %(default)s)")
    parser.add_argument("--share", type=float, required=True, help="of the arm's users; 1 ends the trial well, 0 badly")


def run(args: argparse.Namespace) -> int:
    """Checks the ranker on its golden rows, then changes the routes."""
    from serving.canary import start_canary

    config = config_of(args)
    print(start_canary(args.ranker, config.serving, state=config.home / "serving", arm=args.arm, share=args.share))
    return 0
