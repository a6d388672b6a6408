"""An experiment is started once, with sound shares and known rankers, and all of it is written down."""

import pytest

from contracts.artifacts import write_text
from contracts.errors import UserError
from models.ranker.inputs.ranker_spec import SPEC_FILE
from serving.config import ServingConfig
from serving.deployment.routes import Arm, read_previous_routes, read_routes, write_routes
from serving.experiments.arm_assignment import assign_arms
from serving.experiments.audit_log import AUDIT_LOG, read_audit_lines
from serving.experiments.champion import promote_arm
from serving.experiments.experiment_record import list_records, read_running_record
from serving.experiments.run_experiment import start_experiment, stop_experiment


@pytest.fixture
def two_rankers(state, spec):
    """The state with a second ranker, `ranker_other`, in the arm `treatment`."""
    folder = state / "rankers" / "ranker_other"
    folder.mkdir()
    other = spec.model_copy(update={"model_name": "ranker_other", "version": "f" * 16})
    write_text(folder / SPEC_FILE, other.model_dump_json())
    plan = read_routes(state).as_plan
    arms = {
        "control": Arm(model=spec.model_name, share=0.5),
        "treatment": Arm(model="ranker_other", share=0.5),
    }
    write_routes(state, plan.model_copy(update={"arms": arms}), note="deploy")
    return state


def start(state, rankers=None, *, shares=None, **choices):
    return start_experiment(
        rankers or {},
        ServingConfig(),
        state=state,
        shares=shares or {},
        planned_days=14,
        deciding_metric="ctr",
        started_by="ana",
        **choices,
    )


def test_a_start_routes_the_shares_and_leaves_a_record(two_rankers):
    record = start(two_rankers, shares={"treatment": 0.1}, planned_users=5000, note="new prices")

    routes = read_routes(two_rankers)
    assert routes.arm_shares == {"control": pytest.approx(0.9), "treatment": 0.1}
    assert routes.experiment_id == record.experiment_id
    running = read_running_record(two_rankers)
    assert running == record
    assert (running.planned_days, running.planned_users, running.deciding_metric) == (14, 5000, "ctr")
    (line,) = read_audit_lines(two_rankers)
    assert line["event"] == "experiment_started"
    assert (line["experiment"]["started_by"], line["experiment"]["note"]) == ("ana", "new prices")


def test_each_experiment_draws_its_arms_anew(two_rankers):
    before = read_routes(two_rankers)
    start(two_rankers)
    after = read_routes(two_rankers)
    users = [f"u{number}" for number in range(2000)]
    stayed = sum(assign_arms(before, user).arm == assign_arms(after, user).arm for user in users)
    assert 0.45 < stayed / len(users) < 0.55


def test_a_second_experiment_is_refused(two_rankers):
    record = start(two_rankers)
    with pytest.raises(UserError, match=f"{record.experiment_id}.*experiment stop"):
        start(two_rankers)
    assert len(list_records(two_rankers)) == 1


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"treatment": 1.2}, "sum to 1"),
        ({"treatment": 0}, "between 0 and 1"),
        ({"treatment": 1}, "between 0 and 1"),
        ({"treatment": -0.1}, "between 0 and 1"),
        ({"treatment": float("nan")}, "between 0 and 1"),
        ({"control": 0.5, "treatment": 0.4}, "0.9 in all"),
        ({"other": 0.4}, "the arms are control, treatment"),
        ({"control": 0.5}, "no share for 'treatment'"),
    ],
)
def test_wrong_shares_are_refused(two_rankers, shares, message):
    with pytest.raises(UserError, match=message):
        start(two_rankers, shares=shares)
    assert read_routes(two_rankers).experiment_id is None
    assert not list_records(two_rankers)
    assert not read_audit_lines(two_rankers)


def test_an_unknown_ranker_is_refused_by_name(two_rankers):
    with pytest.raises(UserError, match=r"'nowhere' is no folder.*ranker_other"):
        start(two_rankers, {"treatment": "nowhere"})


def test_the_controls_own_ranker_is_no_challenger(two_rankers, spec):
    with pytest.raises(UserError, match="use --aa"):
        start(two_rankers, {"treatment": spec.model_name})


def test_an_aa_test_has_one_ranker_in_both_arms(two_rankers, spec):
    record = start(two_rankers, is_aa=True)
    assert {arm.model for arm in record.arms.values()} == {spec.model_name}
    assert read_routes(two_rankers).arm_shares == {"control": 0.5, "treatment": 0.5}


def test_a_stop_keeps_the_control(two_rankers, spec):
    start(two_rankers)
    record = stop_experiment(state=two_rankers, keep="control", stopped_by="bo", note="too slow")
    routes = read_routes(two_rankers)
    assert {name: (arm.model, arm.share) for name, arm in routes.arms.items()} == {
        "control": (spec.model_name, 1.0)
    }
    assert (routes.experiment_id, routes.champion) == (None, None)
    assert (record.ended_by, record.outcome) == ("bo", "kept control: too slow")
    assert [line["event"] for line in read_audit_lines(two_rankers)] == [
        "experiment_started",
        "experiment_stopped",
    ]


def test_a_stop_can_keep_the_winner(two_rankers):
    start(two_rankers)
    stop_experiment(state=two_rankers, keep="treatment", stopped_by="bo")
    assert read_routes(two_rankers).champion == "ranker_other"
    assert read_running_record(two_rankers) is None
    with pytest.raises(UserError, match="no experiment runs"):
        stop_experiment(state=two_rankers, keep="control", stopped_by="bo")


def test_a_stop_names_the_arms(two_rankers):
    start(two_rankers)
    with pytest.raises(UserError, match="no arm 'other' to keep; the arms are control, treatment"):
        stop_experiment(state=two_rankers, keep="other", stopped_by="bo")
    assert read_running_record(two_rankers) is not None


def test_any_other_change_of_the_routes_ends_the_experiment_and_is_told(two_rankers):
    first = start(two_rankers)
    promote_arm("treatment", state=two_rankers)
    assert read_running_record(two_rankers) is None
    start(two_rankers, is_aa=True)
    ended, running = list_records(two_rankers)
    assert ended.experiment_id == first.experiment_id
    assert "promote treatment" in ended.outcome
    assert running.ended_at is None


def test_a_torn_last_line_of_the_audit_log_is_passed_over(two_rankers):
    start(two_rankers)
    with (two_rankers / AUDIT_LOG).open("a") as log:
        log.write('{"event": "experi')
    assert len(read_audit_lines(two_rankers)) == 1


def test_a_start_that_fails_is_no_experiment(two_rankers, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("Triton answers otherwise")

    monkeypatch.setattr("serving.experiments.run_experiment.write_routes", refuse)
    with pytest.raises(RuntimeError):
        start(two_rankers, shares={"treatment": 0.1})
    (record,) = list_records(two_rankers)
    assert record.outcome == "could not be started: Triton answers otherwise"
    assert read_running_record(two_rankers) is None
    assert read_routes(two_rankers).experiment_id is None


def test_a_line_after_half_a_line_is_kept(two_rankers):
    start(two_rankers, shares={"treatment": 0.1})
    with (two_rankers / AUDIT_LOG).open("a") as log:
        log.write('{"event": "retrain')
    stop_experiment(state=two_rankers, keep="control", stopped_by="ana")
    events = [line["event"] for line in read_audit_lines(two_rankers)]
    assert events == ["experiment_started", "experiment_stopped"]


def test_a_rollback_leaves_experiments_by_plan_out(two_rankers):
    start(two_rankers, shares={"treatment": 0.1})
    stop_experiment(state=two_rankers, keep="treatment", stopped_by="ana")
    assert read_previous_routes(two_rankers).note == "deploy"
