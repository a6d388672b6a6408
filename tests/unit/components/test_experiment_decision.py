"""Serving's shares reach the lift report, and a decision that is carried out leaves a line."""

import json

import pytest

from components.experiment_decision import carry_out_decision, take_served_plan
from contracts.errors import UserError
from monitoring.config import MonitoringConfig
from monitoring.decision_rule import Decision
from serving.deployment.routes import Arm, ExperimentPlan, read_routes, write_routes
from serving.experiments.audit_log import AUDIT_LOG

RULE = MonitoringConfig()


@pytest.fixture
def state(tmp_path):
    arms = {"control": Arm(model="ranker_a", share=0.9), "new": Arm(model="ranker_b", share=0.1)}
    write_routes(tmp_path, ExperimentPlan(experiment="e", salt="1", arms=arms), note="deploy")
    return tmp_path


@pytest.fixture
def reports(tmp_path):
    for name in ("drift", "lift"):
        (tmp_path / f"{name}.json").write_text("{}")
    return {name: tmp_path / f"{name}.json" for name in ("drift", "lift")}


def decide(action, *, may_act=True):
    arm = None if action == "hold" else "new"
    return Decision(
        action=action, arm=arm, retrain=False, reasons=["because"], may_act=may_act, traffic="simulated"
    )


def read_log(state):
    return [json.loads(line) for line in (state / AUDIT_LOG).read_text().splitlines()]


def test_the_shares_are_those_that_serving_draws_by(state, tmp_path):
    assert take_served_plan(RULE, state=state).arm_shares == {"control": 0.9, "new": 0.1}
    assert take_served_plan(RULE, state=tmp_path / "nothing-deployed") == RULE


def test_the_same_shares_in_other_units_are_no_contradiction(state):
    same = MonitoringConfig(arm_shares={"control": 9, "new": 1})
    assert take_served_plan(same, state=state).arm_shares == {"control": 0.9, "new": 0.1}


def test_shares_that_contradict_serving_are_refused(state):
    with pytest.raises(UserError, match=r"monitoring\.arm_shares .* serving\.shares"):
        take_served_plan(MonitoringConfig(arm_shares={"control": 1, "new": 1}), state=state)


def test_every_decision_is_appended_and_only_an_order_acts(state, reports):
    assert not carry_out_decision(decide("promote"), RULE, **reports, act=False, state=state)
    assert not carry_out_decision(decide("hold"), RULE, **reports, act=True, state=state)
    assert set(read_routes(state).arms) == {"control", "new"}
    assert carry_out_decision(decide("promote"), RULE, **reports, act=True, state=state)
    assert read_routes(state).champion == "ranker_b"
    lines = read_log(state)
    assert [(line["decision"]["action"], line["acted"]) for line in lines] == [
        ("promote", False),
        ("hold", False),
        ("promote", True),
    ]
    assert (lines[-1]["routes_before"], lines[-1]["routes_after"]) == (1, 2)
    assert lines[-1]["rule"]["primary_metric"] == "ctr"


def test_a_decision_on_times_unknown_is_not_carried_out(state, reports):
    assert not carry_out_decision(decide("rollback", may_act=False), RULE, **reports, act=True, state=state)
    assert read_routes(state).revision == 1


def test_a_report_of_rankers_that_are_no_longer_served_changes_nothing(state, reports):
    old = {"rankers": {"control": "a", "new": "former00"}}
    reports["lift"].write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"is of ranker_former00 in arm 'new', which serves ranker_b now"):
        carry_out_decision(decide("promote"), RULE, **reports, act=True, state=state)
    assert read_routes(state).revision == 1
    assert "ranker_former00" in read_log(state)[0]["error"]
    reports["lift"].write_text(json.dumps({"rankers": {"control": "a", "new": "b"}}))
    assert carry_out_decision(decide("promote"), RULE, **reports, act=True, state=state)


def test_an_act_that_fails_is_logged_too(state, reports):
    stranger = decide("promote").model_copy(update={"arm": "gone"})
    with pytest.raises(UserError, match="no arm 'gone'"):
        carry_out_decision(stranger, RULE, **reports, act=True, state=state)
    (line,) = read_log(state)
    assert (line["acted"], "no arm 'gone'" in line["error"]) == (False, True)
