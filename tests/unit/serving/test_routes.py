import pytest
from pydantic import ValidationError

from contracts.errors import UserError
from serving.deployment.routes import (
    Arm,
    Canary,
    ExperimentPlan,
    read_previous_routes,
    read_routes,
    write_routes,
)


def _write(state, model, note="test"):
    plan = ExperimentPlan(experiment="e", salt="1", arms={"all": Arm(model=model, share=1.0)})
    return write_routes(state, plan, note=note)


def test_what_is_written_is_read(tmp_path):
    written = _write(tmp_path, "ranker_a")
    assert read_routes(tmp_path) == written
    assert written.revision == 1


def test_the_previous_routes_are_the_last_different_ones(tmp_path):
    for model in ("ranker_a", "ranker_b", "ranker_b"):
        _write(tmp_path, model)
    assert read_routes(tmp_path).revision == 3
    assert read_previous_routes(tmp_path).model_names == {"ranker_a"}


def test_going_back_twice_returns(tmp_path):
    for model in ("ranker_a", "ranker_b"):
        _write(tmp_path, model)
    for expected in ("ranker_a", "ranker_b"):
        back = read_previous_routes(tmp_path)
        write_routes(tmp_path, back.as_plan, note="rollback")
        assert read_routes(tmp_path).model_names == {expected}


def test_nothing_deployed_and_nothing_earlier_are_said(tmp_path):
    with pytest.raises(UserError, match="run the deploy step"):
        read_routes(tmp_path)
    _write(tmp_path, "ranker_a")
    with pytest.raises(UserError, match="nothing to roll back to"):
        read_previous_routes(tmp_path)


def test_what_came_before_a_canary_is_what_is_rolled_back_to(tmp_path):
    before = _write(tmp_path, "ranker_a")
    trial = before.arms["all"].model_copy(update={"canary": Canary(model="ranker_b", share=0.1)})
    after = write_routes(tmp_path, before.as_plan.model_copy(update={"arms": {"all": trial}}), note="canary")
    assert after.model_names == {"ranker_a", "ranker_b"}
    assert read_previous_routes(tmp_path) == before


def test_shares_must_sum_to_one():
    arms = {"a": Arm(model="m", share=0.5), "b": Arm(model="m", share=0.4)}
    with pytest.raises(ValidationError, match=r"0\.9 in all"):
        ExperimentPlan(experiment="e", salt="1", arms=arms)


def test_a_holdout_needs_something_to_see():
    arms = {"a": Arm(model="m", share=0.5), "b": Arm(model="m", share=0.5)}
    with pytest.raises(ValidationError, match="arm 'control' in each experiment; e has none"):
        ExperimentPlan(experiment="e", salt="1", arms=arms, holdout=0.1)
    assert (
        ExperimentPlan(experiment="e", salt="1", arms={"all": Arm(model="m", share=1)}, holdout=0.1).holdout
        == 0.1
    )
