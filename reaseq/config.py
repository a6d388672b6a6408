"""`reaseq config`: prints the resolved run configuration."""

import argparse

from reaseq.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the configuration with every default filled in."""
    from pipelines.config import dump_config

    print(dump_config(config_of(args)), end="")
    return 0
