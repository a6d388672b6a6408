"""Starts the training that a decision calls for, on this machine."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring.decision_rule import Decision
    from pipelines.config import RunConfig


def retrain_if_due(run_config: "RunConfig", decision: "Decision") -> bool:
    """Runs `train_and_deploy` where the decision says that it is due. Tells whether it ran.

    Raises:
        UserError: what the user gave is wrong.
        StepFailedError: a step failed.
    """
    if not decision.retrain_now:
        return False
    from components.retraining import log_retraining_end, log_retraining_start
    from reaseq.local_runs import is_promoted, run_pipeline

    state = run_config.home / "serving"
    log_retraining_start(state, decision)
    print("the inputs have drifted: training anew (train_and_deploy)", flush=True)
    outcome = "failed"
    try:
        artifacts = run_pipeline(run_config, "train_and_deploy", deploy=True)
        is_deployed = is_promoted(artifacts["evaluation"])
        outcome = "deployed" if is_deployed else "the gate did not let it pass"
    finally:
        log_retraining_end(state, outcome)
    print(f"trained anew: {outcome}")
    return True
