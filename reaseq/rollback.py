"""`reaseq rollback`: puts the previous rankers back into service."""

import argparse

from reaseq.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)


def run(args: argparse.Namespace) -> int:
    """Checks that the previous rankers still answer as they did, then switches the routes back."""
    from serving.deploy import rollback

    config = config_of(args)
    print(rollback(config.serving, state=config.home / "serving"))
    return 0
