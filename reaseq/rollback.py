"""`reaseq rollback`: puts the previous rankers back into service."""

import argparse

from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {"reaseq rollback": "undo the last deployment, canary or promotion"}
add_arguments = add_config_options


def run_verb(arguments: argparse.Namespace) -> int:
    """Checks that the previous rankers still answer as they did, then switches the routes back."""
    from serving.deployment.deploy_rankers import roll_back_routes

    run_config = load_run_config(arguments)
    print(roll_back_routes(run_config.serving, state=run_config.home / "serving"))
    return 0
