"""Decides what becomes of the experiment."""

from typing import NamedTuple

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def decide(
    drift: dsl.Input[dsl.Artifact],
    lift: dsl.Input[dsl.Artifact],
    config: str,
    act: bool,
    train: bool,
    workspace: str,
    decision: dsl.Output[dsl.Artifact],
) -> NamedTuple("Verdict", [("action", str), ("retrain", bool)]):  # type: ignore[valid-type]
    """Hold, promote or roll back, with reasons; carries it out when told to. Never cached.

    Args:
        drift: the drift report.
        lift: the lift report.
        config: JSON of `monitoring.config.MonitoringConfig`.
        act: carry the decision out; else it is only written down.
        train: start a training of this run's own when told to act and one is due; it counts from now on.
        workspace: folder that outlives the step; the routes lie in it.
        decision: the decision with its reasons (JSON).

    Returns:
        `hold`, `promote` or `rollback`, and whether the training begins.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.monitor_decision import decide_and_carry_out
    from monitoring.config import MonitoringConfig

    verdict = decide_and_carry_out(
        Path(drift.path),
        Path(lift.path),
        MonitoringConfig.model_validate_json(config),
        act=act,
        train=train,
        state=Path(workspace) / "serving",
        out=Path(decision.path),
    )
    values = verdict._asdict()
    return namedtuple("Verdict", values)(**values)
