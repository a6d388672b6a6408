"""`reaseq lineage`: from a served score back to what made it, and from an item to where it was shown."""

import argparse
from pathlib import Path

from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq lineage champion": "the ranker in service: features, space, knowledge, teacher, data, code",
    "reaseq lineage r1-t00000042": "a request: each score, what was missing, and the ranker's lineage",
    "reaseq lineage i00001": "an item: its knowledge, and which rankers showed it where",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "subject",
        metavar="REQUEST|MODEL|ITEM",
        help="request id, ranker (name, version, arm or `champion`) or item id",
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of a run (default: the config's)")
    add_config_options(parser)


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints plain text."""
    home = arguments.home or load_run_config(arguments).home
    from contracts.errors import UserError
    from pipelines.lineage_trace import LineageTrace

    if not home.is_dir():
        raise UserError(f"no run in {home} yet; `reaseq run` makes one")
    print(LineageTrace(home).describe(arguments.subject))
    return 0
