"""`reaseq run`: runs a pipeline on this machine and prints what came of it."""

import argparse

from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq run": "the embedded shop: train, measure, deploy",
    "reaseq run --config configs/electronics.yaml --no-deploy": "a log of your own: train and measure",
    "reaseq run --set ranker.max_epochs=3": "one value changed; only the steps that it touches run again",
    "reaseq run --pipeline distill_teacher": "a small language model learns from the teacher",
    "reaseq run --pipeline refresh_users": "after a deployment: users' new behaviors reach the store",
}
_PIPELINES = ("train_and_deploy", "refresh_users", "refresh_catalogue", "distill_teacher")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument(
        "--pipeline", default=_PIPELINES[0], choices=_PIPELINES, help="which one (default: %(default)s)"
    )
    parser.add_argument("--no-deploy", dest="deploy", action="store_false", help="train and evaluate only")


def run_verb(arguments: argparse.Namespace) -> int:
    """Runs the pipeline and prints what it made. Returns 1 when the gate refused to deploy."""
    run_config = load_run_config(arguments)
    run_folder = run_config.home
    print(
        f"{arguments.pipeline} of '{run_config.name}' in {run_folder} (whole log: {run_folder / 'run.log'})"
    )
    from reaseq.local_runs import is_promoted, run_pipeline
    from reaseq.run_summary import print_artifacts, print_evaluation

    artifacts = run_pipeline(run_config, arguments.pipeline, deploy=arguments.deploy)
    print_artifacts(artifacts)
    if "evaluation" not in artifacts:
        return 0
    print_evaluation(artifacts["evaluation"])
    if not arguments.deploy or is_promoted(artifacts["evaluation"]):
        return 0
    print(
        "the gate did not let the ranker pass: nothing was deployed. If the log is only too small to decide, "
        "`--set evaluation.gate=report` deploys it all the same"
    )
    return 1
