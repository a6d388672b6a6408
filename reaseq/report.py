"""`reaseq report`: writes the drift and lift reports of what was served, and the decision that follows."""

import argparse
import json
from pathlib import Path

from reaseq.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--act", action="store_true", help="carry the decision out (promote or roll back)")


def run(args: argparse.Namespace) -> int:
    """Runs the monitor pipeline; prints decision, figures and where the pages lie."""
    from reaseq.running import run_pipeline

    config = config_of(args)
    print_reports(run_pipeline(config, "monitor", act=args.act))
    print("dashboard:    .venv/bin/reaseq dashboard")
    return 0


def print_reports(artifacts: dict[str, Path]) -> None:
    """Prints the decision with its reasons, and where the pages lie."""
    decision = json.loads(artifacts["decision"].read_text(encoding="utf-8"))
    print(f"decision on {decision['traffic']}: {decision['action']} {decision['arm'] or ''}")
    print("\n".join(f"  - {reason}" for reason in decision["reasons"]))
    print(f"drift report: {artifacts['drift'] / 'report.html'}")
    print(f"lift report:  {artifacts['lift'] / 'report.html'}")
