"""Drift starts a training: after a cool-down, within a budget, and never into a planned experiment."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from components.monitor_decision import decide_and_carry_out
from components.retraining import judge_retraining, log_retraining_start
from monitoring.config import MonitoringConfig
from monitoring.decision_rule import Decision
from reaseq import local_runs
from reaseq.retraining import retrain_if_due
from serving.deployment.routes import Arm, ExperimentPlan, write_routes
from serving.experiments.audit_log import append_audit_line, read_audit_lines
from serving.experiments.experiment_record import ExperimentRecord, write_record

NOW = datetime(2026, 5, 1, tzinfo=UTC)
RULE = MonitoringConfig.model_validate(
    {"retraining": {"cool_down_days": 7, "max_runs": 2, "budget_days": 28}}
)


def decide(*, retrain=True, action="hold", may_act=True):
    arm = None if action == "hold" else "new"
    return Decision(
        action=action, arm=arm, retrain=retrain, reasons=["because"], may_act=may_act, traffic="simulated"
    )


def start_at(state, *days_ago):
    for days in days_ago:
        moment = NOW - timedelta(days=days)
        append_audit_line(state, {"event": "retraining_started", "time": moment.isoformat()})


@pytest.mark.parametrize(
    ("days_ago", "is_due", "reason"),
    [
        ([], True, None),
        ([3], False, "cool_down_days` is 7"),
        ([8], True, None),
        ([27, 8], False, "max_runs` is 2"),
        ([29, 8], True, None),
        ([27, 8, 3], False, "cool_down_days` is 7"),
    ],
)
def test_a_training_waits_for_its_cool_down_and_its_budget(tmp_path, days_ago, is_due, reason):
    start_at(tmp_path, *days_ago)
    judged = judge_retraining(decide(), RULE, state=tmp_path, now=NOW)
    assert judged.retrain_now == is_due
    assert judged.retrain
    if reason is not None:
        assert "Retraining waits" in judged.reasons[-1]
        assert reason in judged.reasons[-1]


def test_a_budget_of_none_starts_none(tmp_path):
    rule = MonitoringConfig.model_validate({"retraining": {"max_runs": 0}})
    assert not judge_retraining(decide(), rule, state=tmp_path, now=NOW).retrain_now


def test_without_drift_nothing_is_due(tmp_path):
    decision = decide(retrain=False)
    assert judge_retraining(decision, RULE, state=tmp_path, now=NOW) == decision


def test_advice_on_times_unknown_starts_nothing(tmp_path):
    assert not judge_retraining(decide(may_act=False), RULE, state=tmp_path, now=NOW).retrain_now


@pytest.mark.parametrize(("action", "is_due"), [("hold", False), ("promote", True), ("rollback", True)])
def test_a_planned_experiment_ends_first(tmp_path, action, is_due):
    write_experiment(tmp_path)
    judged = judge_retraining(decide(action=action), RULE, state=tmp_path, now=NOW)
    assert judged.retrain_now == is_due
    assert is_due or "experiment exp-1 runs" in judged.reasons[-1]


def write_experiment(state):
    arms = {name: Arm(model=f"ranker_{name}", share=0.5) for name in ("control", "new")}
    record = ExperimentRecord(
        experiment_id="exp-1",
        arms=arms,
        started_at=NOW,
        started_by="ana",
        planned_days=7,
        deciding_metric="ctr",
    )
    write_record(state, record)
    plan = ExperimentPlan(experiment="ranker", salt="1", arms=arms)
    write_routes(state, plan, note="start", experiment_id="exp-1")


def write_reports(folder, *, drifted):
    lift = {
        "traffic": "simulated",
        "control": "control",
        "srm": {"p_value": 0.5, "mismatch": False, "users": {"control": 500, "new": 500}},
        "first_exposure": NOW.isoformat(),
        "last_exposure": (NOW + timedelta(days=3)).isoformat(),
        "rows": [
            {"arm": "new", "metric": "ctr", "relative": {"value": 0.0, "low": -0.1, "high": 0.1}},
        ],
    }
    drift = {"drifted": drifted, "drifted_columns": ["price"], "embedding_drifted": False}
    for name, content in (("lift", lift), ("drift", drift)):
        (folder / name).mkdir()
        (folder / name / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("drifted", "act", "train", "begins"),
    [
        (True, True, True, True),
        (True, True, False, False),
        (True, False, True, False),
        (False, True, True, False),
    ],
)
def test_the_decide_step_begins_a_training_and_counts_it(tmp_path, drifted, act, train, begins):
    write_reports(tmp_path, drifted=drifted)

    def run():
        return decide_and_carry_out(
            tmp_path / "drift",
            tmp_path / "lift",
            RULE,
            act=act,
            train=train,
            state=tmp_path / "serving",
            out=tmp_path / "decision.json",
        )

    assert run() == ("hold", begins)
    told = json.loads((tmp_path / "decision.json").read_text())
    assert told["retrain"] == told["retrain_now"] == drifted
    started = [
        line for line in read_audit_lines(tmp_path / "serving") if line["event"] == "retraining_started"
    ]
    assert len(started) == begins
    if begins:
        assert run() == ("hold", False)
        assert "cool_down" in json.loads((tmp_path / "decision.json").read_text())["reasons"][-1]


class LocalRun:
    """As much of a run configuration as a training needs."""

    def __init__(self, home):
        self.home = home


@pytest.mark.parametrize(
    ("promote", "outcome"), [(True, "deployed"), (False, "the gate did not let it pass")]
)
def test_a_training_that_is_due_runs_and_is_logged(tmp_path, monkeypatch, promote, outcome):
    runs = []

    def run_pipeline(config, pipeline, **choices):
        runs.append((config.home, pipeline, choices))
        (tmp_path / "decision.json").write_text(json.dumps({"promote": promote}))
        return {"evaluation": tmp_path}

    monkeypatch.setattr(local_runs, "run_pipeline", run_pipeline)
    run_config = LocalRun(tmp_path)
    assert not retrain_if_due(run_config, decide())
    assert retrain_if_due(run_config, decide().model_copy(update={"retrain_now": True}))
    assert runs == [(tmp_path, "train_and_deploy", {"deploy": True})]
    events = [(line["event"], line.get("outcome")) for line in read_audit_lines(tmp_path / "serving")]
    assert events == [("retraining_started", None), ("retraining_ended", outcome)]


def test_a_training_that_fails_counts_and_says_so(tmp_path, monkeypatch):
    def run_pipeline(*_, **__):
        raise RuntimeError("no space left")

    monkeypatch.setattr(local_runs, "run_pipeline", run_pipeline)
    with pytest.raises(RuntimeError, match="no space left"):
        retrain_if_due(LocalRun(tmp_path), decide().model_copy(update={"retrain_now": True}))
    assert [line.get("outcome") for line in read_audit_lines(tmp_path / "serving")] == [None, "failed"]
    now = datetime.now(UTC)
    assert not judge_retraining(decide(), RULE, state=tmp_path / "serving", now=now).retrain_now


def test_a_start_is_logged_with_its_reasons(tmp_path):
    log_retraining_start(tmp_path, decide())
    assert read_audit_lines(tmp_path)[0]["reasons"] == ["because"]
