"""`reaseq config`: prints the resolved run configuration."""

import argparse

from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq config": "every key with its default",
    "reaseq config --config configs/electronics.yaml --set ranker.max_epochs=3": "check a file of your own",
}
add_arguments = add_config_options


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints the configuration with every default filled in."""
    from pipelines.config import dump_config

    print(dump_config(load_run_config(arguments)), end="")
    return 0
