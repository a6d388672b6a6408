"""The `reaseq` command: finds the verb, runs it, and answers with an exit code and one clean message."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from contracts.errors import UserError
from reaseq.interruption import Interrupted, end_children_when_interrupted

VERBS = {
    "demo": "run everything on the embedded shop: pipeline, servers, a ranking request, traffic, reports",
    "config": "print the resolved run configuration, or say everything that is wrong with it",
    "data": "look at your files, and write a configuration that reads them",
    "run": "run the train-and-deploy pipeline on this machine",
    "knowledge": "print what is known of an item and why, or its nearest items",
    "serve": "start Triton and the gateway with what was deployed",
    "rank": "send one ranking request to the gateway",
    "traffic": "send simulated A/B traffic through the gateway (embedded shop)",
    "report": "write the drift and lift reports and the decision",
    "decide": "apply the decision rule to the last reports; change nothing unless told to",
    "experiment": "plan, start, watch and end an experiment",
    "dashboard": "open the drift and lift dashboards in Evidently's UI",
    "lineage": "tell what made a served score, or where an item was shown",
    "canary": "let a new ranker answer a share of an arm's users",
    "promote": "make an arm's ranker the champion, which answers everybody",
    "rollback": "put the previous rankers back into service",
    "status": "tell who is in service and how the last runs ended, here or on a cluster",
    "compile": "compile the pipelines to KFP packages",
    "doctor": "ask a cluster for all that a run will need; submit nothing",
    "submit": "submit or schedule a pipeline on Kubeflow",
    "schedules": "make a cluster hold the schedules of a file, or say what differs",
    "completion": "print the shell's completion script",
}
"""Verb -> help. Each verb is the module `reaseq.<verb>` with `EXAMPLES`, `add_arguments` and `run_verb`."""
EXAMPLES = {
    "reaseq demo": "see everything once",
    "reaseq run --config configs/electronics.yaml": "run a catalogue and a log of your own",
    "reaseq run --help": "options and examples of a verb",
}
EXIT_CODES = """\
exit codes:
  0    done
  1    the run failed, or the gate did not let the ranker pass; `schedules`: something differs, or waits
  2    something that you can change is wrong; the message says what
  3    the run on the cluster, for which `submit --wait` waited, was canceled
  130  interrupted by Ctrl-C (143: by SIGTERM); every process that was started has ended, and the same
       command goes on where it stopped"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code (see `EXIT_CODES`)."""
    arguments = build_parser().parse_args(argv)
    try:
        with end_children_when_interrupted():
            exit_code: int = import_module(f"reaseq.{arguments.verb}").run_verb(arguments)
            return exit_code
    except UserError as error:
        return _print_error(arguments.verb, str(error), exit_code=2)
    except Interrupted as interruption:
        return _print_error(arguments.verb, "interrupted", exit_code=interruption.exit_code)
    except RuntimeError as error:
        from pipelines.step_log import StepFailedError

        if not isinstance(error, StepFailedError):
            raise
        return _print_error(arguments.verb, str(error), exit_code=1)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="reaseq",
        description="ReaSeq: recommender ranking that reasons.",
        epilog=f"{format_examples(EXAMPLES)}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb_parsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, verb_help in VERBS.items():
        verb_module = import_module(f"reaseq.{verb}")
        verb_parser = verb_parsers.add_parser(
            verb,
            help=verb_help,
            description=verb_help,
            epilog=format_examples(verb_module.EXAMPLES),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb_module.add_arguments(verb_parser)
    return parser


def format_examples(examples: dict[str, str]) -> str:
    """The last part of a help page: commands, each under what it is for."""
    return "\n".join(["examples:", *(f"  # {purpose}\n  {command}" for command, purpose in examples.items())])


def _print_error(verb: str, message: str, *, exit_code: int) -> int:
    print(f"reaseq {verb}: {message}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
