"""The `reaseq` command: finds the verb, runs it, turns a user's error into a clean message and exit code 2."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from contracts.errors import UserError

VERBS = {
    "demo": "run everything on the embedded shop: pipeline, servers, a ranking request, traffic, reports",
    "config": "print the resolved run configuration, or say everything that is wrong with it",
    "run": "run the train-and-deploy pipeline on this machine",
    "knowledge": "print what is known of an item and why, or its nearest items",
    "serve": "start Triton and the gateway with what was deployed",
    "rank": "send one ranking request to the gateway",
    "traffic": "send simulated A/B traffic through the gateway (embedded shop)",
    "report": "write the drift and lift reports and the decision",
    "dashboard": "open the drift and lift dashboards in Evidently's UI",
    "canary": "let a new ranker answer a share of an arm's users",
    "promote": "make an arm's ranker the champion, which answers everybody",
    "rollback": "put the previous rankers back into service",
    "compile": "compile the pipelines to KFP packages",
    "submit": "submit or schedule a pipeline on Kubeflow",
}
"""Verb -> help; each verb is the module `reaseq.<verb>` with `add_arguments(parser)` and `run(args)`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code (0 done, 1 failed, 2 the user must change something)."""
    parser = argparse.ArgumentParser(prog="reaseq", description="ReaSeq: recommender ranking that reasons.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in VERBS.items():
        import_module(f"reaseq.{verb}").add_arguments(verbs.add_parser(verb, help=text, description=text))
    args = parser.parse_args(argv)
    try:
        code: int = import_module(f"reaseq.{args.verb}").run(args)
        return code
    except UserError as error:
        print(f"reaseq {args.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nreaseq {args.verb}: interrupted; run it again to go on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
