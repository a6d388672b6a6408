"""A running experiment is told against its plan: only its own pages count, and nothing is called early."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from components.experiment_decision import find_planned_test, take_served_plan
from components.experiment_progress import measure_progress
from components.experiment_status import describe_power, describe_status
from components.served_traffic import select_compared_exposures, select_routed_exposures
from contracts.artifacts import write_text
from contracts.errors import UserError
from contracts.events.event_repeats import RepeatRuleConfig
from monitoring.config import MonitoringConfig
from monitoring.decision_obstacles import PlannedTest
from monitoring.decision_rule import decide_by_lift_and_drift
from serving.deployment.routes import Arm, ExperimentPlan, read_routes, write_routes
from serving.event_log.log_tables import read_exposures
from serving.experiments.experiment_record import ExperimentRecord, write_record

START = datetime(2025, 5, 1, tzinfo=UTC)
RULE = MonitoringConfig()


def write_state(state, *, is_aa=False, days=4.0, users=1000):
    arms = {
        "control": Arm(model="ranker_aaaaaaaa", share=0.5),
        "new": Arm(model="ranker_bbbbbbbb", share=0.5),
    }
    record = ExperimentRecord(
        experiment_id="exp-1",
        arms=arms,
        started_at=START,
        started_by="ana",
        planned_days=days,
        planned_users=users,
        deciding_metric="orders_per_user",
        is_aa=is_aa,
    )
    write_record(state, record)
    write_routes(
        state,
        ExperimentPlan(experiment="ranker", salt="exp-1", arms=arms),
        note="start",
        experiment_id="exp-1",
    )
    return record


def write_log(state, num_users, *, days=2.0):
    """Each user was shown one page before the start, in the other arm, and one since; every third clicked."""
    lines, events = [], []
    for number in range(num_users):
        arms = ["control", "new"] if number % 2 else ["new", "control"]
        for name, arm in zip(("before", "since"), arms, strict=True):
            moment = START + timedelta(days=days * number / (num_users - 1))
            model = ("a" if arm == "control" else "b") * 32
            lines.append(
                {
                    "request_id": f"{name}-{number}",
                    "user_id": f"u{number}",
                    "timestamp": moment.isoformat(),
                    "arm": arm,
                    "layers": [],
                    "assignment": "drawn",
                    "model_version": model,
                    "routed_version": model,
                    "item_ids": ["i"],
                    "scores": [0.5],
                    "propensities": [1.0],
                    "degraded": [[]],
                }
                | ({"experiment_id": "exp-1"} if name == "since" else {})
            )
        if number % 3 == 0:
            events.append(
                {
                    "user_id": f"u{number}",
                    "item_id": "i",
                    "event_type": "click",
                    "timestamp": moment.isoformat(),
                    "request_id": f"since-{number}",
                }
            )
    for kind, rows in (("exposures", lines), ("events", events)):
        path = state / "events" / f"{kind}-1.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def progress(state, record):
    return measure_progress(record, RULE, state=state, repeats=RepeatRuleConfig())


def test_only_pages_of_the_experiment_count(tmp_path):
    record = write_state(tmp_path)
    write_log(tmp_path, 400)
    routes = read_routes(tmp_path)
    routed = select_routed_exposures(read_exposures(tmp_path / "events"), routes)
    compared = select_compared_exposures(tmp_path, routes, routed)
    assert (len(routed), len(compared)) == (800, 400)
    seen = progress(tmp_path, record)
    assert seen.users == {"control": 200, "new": 200}
    assert (seen.days, seen.is_complete, seen.is_mismatch) == (pytest.approx(2, abs=0.05), False, False)
    assert {metric.metric for metric in seen.metrics} == {"ipv_per_user", "ctr"}
    assert all(metric.detectable["new"] > 0 for metric in seen.metrics)


def test_before_anybody_saw_it_there_is_no_progress(tmp_path):
    record = write_state(tmp_path)
    (tmp_path / "events").mkdir()
    assert progress(tmp_path, record) is None
    with pytest.raises(UserError, match="nobody saw experiment exp-1"):
        select_compared_exposures(tmp_path, read_routes(tmp_path), read_exposures(tmp_path / "events"))


def test_the_status_tells_no_lift_and_no_verdict_before_its_time(tmp_path):
    home = tmp_path / "run"
    record = write_state(home / "serving")
    write_log(home / "serving", 400)

    told = "\n".join(describe_status(RULE, state=home / "serving", repeats=RepeatRuleConfig()))
    assert "2.0 of 4 days, 400 of 1,000 users" in told
    assert "as intended" in told
    assert "before its time" in told
    assert "lift of" not in told
    assert record.experiment_id in told


def test_a_split_that_is_not_as_planned_is_told(tmp_path):
    record = write_state(tmp_path)
    write_log(tmp_path, 400)
    skewed = {
        "control": Arm(model="ranker_aaaaaaaa", share=0.9),
        "new": Arm(model="ranker_bbbbbbbb", share=0.1),
    }
    plan = read_routes(tmp_path).as_plan.model_copy(update={"arms": skewed})
    write_routes(tmp_path, plan, note="test", experiment_id="exp-1")
    assert progress(tmp_path, record).is_mismatch


def test_the_planned_metric_decides_whatever_the_configuration_says(tmp_path):
    write_state(tmp_path)
    assert take_served_plan(RULE, state=tmp_path).primary_metric == "orders_per_user"
    assert find_planned_test(tmp_path) == PlannedTest(days=4, users=1000, kind="ab")


def test_a_planned_metric_that_nobody_knows_is_refused(tmp_path):
    record = write_state(tmp_path)
    write_record(tmp_path, record.model_copy(update={"deciding_metric": "happiness"}))
    with pytest.raises(UserError, match="'happiness' cannot decide"):
        take_served_plan(RULE, state=tmp_path)


@pytest.mark.parametrize(
    ("decide_by", "days", "users", "is_aa", "action"),
    [
        ("sequential", 1, 200, False, "promote"),
        ("fixed_horizon", 1, 2000, False, "hold"),
        ("fixed_horizon", 5, 200, False, "hold"),
        ("fixed_horizon", 5, 2000, False, "promote"),
        ("sequential", 5, 2000, True, "hold"),
    ],
)
def test_a_fixed_horizon_waits_for_its_day_and_an_aa_test_decides_nothing(
    tmp_path, decide_by, days, users, is_aa, action
):
    lift = {
        "traffic": "simulated",
        "control": "control",
        "srm": {"p_value": 0.5, "mismatch": False, "users": {"control": users // 2, "new": users // 2}},
        "first_exposure": START.isoformat(),
        "last_exposure": (START + timedelta(days=days)).isoformat(),
        "rows": [
            {"arm": "new", "metric": metric, "relative": {"value": 0.05, "low": 0.02, "high": 0.08}}
            for metric in ("ctr", "orders_per_user", "gmv_per_user")
        ],
    }
    write_text(tmp_path / "lift.json", json.dumps(lift))
    write_text(tmp_path / "drift.json", json.dumps({"drifted": False}))
    verdict = decide_by_lift_and_drift(
        tmp_path / "drift.json",
        tmp_path / "lift.json",
        MonitoringConfig(decide_by=decide_by),
        plan=PlannedTest(days=4, users=1000, kind="aa" if is_aa else "ab"),
    )
    assert verdict.action == action, verdict.reasons


def add_lines(state, *lines):
    path = state / "events" / "exposures-2.jsonl"
    path.parent.mkdir(exist_ok=True)
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def show_page(arm, *, request_id="more", moment=START, model=None, **more):
    model = model or ("a" if arm == "control" else "b") * 32
    page = {"request_id": request_id, "user_id": request_id, "timestamp": moment.isoformat(), "arm": arm}
    page |= {"assignment": "drawn", "model_version": model, "routed_version": model, "item_ids": ["i"]}
    return page | {"scores": [0.5], "degraded": [[]], "experiment_id": "exp-1"} | more


@pytest.mark.parametrize("arm", ["control", "new"])
def test_one_user_is_progress_and_no_error(tmp_path, arm):
    record = write_state(tmp_path)
    add_lines(tmp_path, show_page(arm))
    seen = progress(tmp_path, record)
    assert seen.users == {"control": 0, "new": 0} | {arm: 1}
    assert not seen.is_complete
    assert list(describe_power(seen)) == ["nobody has clicked or ordered yet"]


@pytest.mark.parametrize("days", [-3000, 30])
def test_one_users_clock_makes_no_long_test(tmp_path, days):
    record = write_state(tmp_path)
    write_log(tmp_path, 400, days=1.0)
    add_lines(tmp_path, show_page("new", moment=START + timedelta(days=days)))
    seen = progress(tmp_path, record)
    assert seen.days == pytest.approx(1, abs=0.05)
    assert sum(seen.users.values()) == 401


def test_a_line_with_a_nan_costs_only_itself(tmp_path):
    record = write_state(tmp_path)
    write_log(tmp_path, 400)
    add_lines(tmp_path, show_page("new", scores=[float("nan")]), show_page("new", request_id="sound"))
    assert sum(progress(tmp_path, record).users.values()) == 401


def test_an_earlier_experiments_pages_are_of_other_arms(tmp_path):
    """Once the challenger is the control, its former pages stand in the arm that it challenges from now."""
    write_state(tmp_path)
    routes = read_routes(tmp_path).model_copy(update={"experiment_id": None})
    former = [
        show_page("new", request_id="control's ranker, as a challenger", model="a" * 32),
        show_page("control", request_id="another ranker, as the control", model="c" * 32),
        show_page("old", request_id="an arm that is gone", model="b" * 32),
    ]
    add_lines(tmp_path, *former, show_page("new", request_id="now"))
    routed = select_routed_exposures(read_exposures(tmp_path / "events"), routes)
    assert len(routed) == 3, "drift looks at a ranker's pages, whatever the arm was called"
    assert select_compared_exposures(tmp_path, routes, routed)["request_id"].to_list() == ["now"]
