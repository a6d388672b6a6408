"""Promotion makes a champion of an arm's ranker; a harmful arm is retired; both are undone by a rollback of
routes."""

import pytest

from contracts.errors import UserError
from serving.deployment.routes import (
    Arm,
    Canary,
    ExperimentPlan,
    read_previous_routes,
    read_routes,
    write_routes,
)
from serving.experiments.champion import find_champion, promote_arm, read_champion_name, retire_arm


@pytest.fixture
def state(tmp_path):
    arms = {"control": Arm(model="ranker_a", share=0.5), "treatment": Arm(model="ranker_b", share=0.5)}
    write_routes(tmp_path, ExperimentPlan(experiment="e", salt="1", arms=arms), note="deploy")
    return tmp_path


def test_the_winner_answers_everybody_and_is_champion(state):
    assert find_champion(state) is None

    promote_arm("treatment", state=state)

    assert {name: (arm.model, arm.share) for name, arm in read_routes(state).arms.items()} == {
        "control": ("ranker_b", 1.0)
    }
    assert read_champion_name(state) == "ranker_b"
    assert find_champion(state).name == "ranker_b"


def test_before_the_promotion_there_was_no_champion(state):
    promote_arm("treatment", state=state)

    assert read_previous_routes(state).champion is None
    assert set(read_previous_routes(state).arms) == {"control", "treatment"}


def test_the_users_of_a_retired_arm_see_the_control(state):
    retire_arm("treatment", state=state)

    assert read_routes(state).arms == {"control": Arm(model="ranker_a", share=1.0)}
    assert read_champion_name(state) is None


@pytest.mark.parametrize(
    ("change", "arm"), [(promote_arm, "other"), (retire_arm, "other"), (retire_arm, "control")]
)
def test_an_arm_that_cannot_be_moved_is_named(state, change, arm):
    with pytest.raises(UserError, match=arm):
        change(arm, state=state)


def test_an_arm_that_two_rankers_answer_is_not_promoted(state):
    plan = read_routes(state).as_plan
    trial = plan.arms["treatment"].model_copy(update={"canary": Canary(model="ranker_c", share=0.1)})
    write_routes(state, plan.model_copy(update={"arms": plan.arms | {"treatment": trial}}), note="canary")
    with pytest.raises(UserError, match="has a canary"):
        promote_arm("treatment", state=state)
    retire_arm("treatment", state=state)
    assert read_routes(state).model_names == {"ranker_a"}


def test_an_arm_whose_pages_are_shared_is_not_promoted(state):
    plan = read_routes(state).as_plan
    shared = Arm(model="ranker_a", share=0.5, interleaved="ranker_b")
    write_routes(state, plan.model_copy(update={"arms": plan.arms | {"treatment": shared}}), note="test")
    with pytest.raises(UserError, match="stop --keep"):
        promote_arm("treatment", state=state)
