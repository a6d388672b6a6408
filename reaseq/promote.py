"""`reaseq promote`: makes an arm's ranker the champion, which answers everybody."""

import argparse

from reaseq.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--arm", default="treatment", help="arm that won (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Switches the routes; the running gateways follow with their next request."""
    from serving.champion import promote

    print(promote(args.arm, state=config_of(args).home / "serving"))
    return 0
