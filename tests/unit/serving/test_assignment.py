"""Several experiments at once: independent of each other, with a holdout, canaries and forced arms."""

from collections import Counter
from functools import partial

import pytest

from contracts.errors import UserError
from serving.deployment.routes import Arm, Canary, ExperimentPlan
from serving.experiments.arm_assignment import assign_arms, parse_forced_arms
from serving.experiments.experiment_layers import ExperimentLayer

USERS = [f"user_{number}" for number in range(20_000)]
ARMS = {"control": Arm(model="a", share=0.5), "treatment": Arm(model="b", share=0.5)}
LAYERS = {"page": ExperimentLayer(shares={"control": 0.5, "wide": 0.5})}


def _plan(**changes) -> ExperimentPlan:
    return ExperimentPlan(**{"experiment": "ranker", "salt": "1", "arms": ARMS, "layers": LAYERS} | changes)


def _share(count: int, share: float) -> bool:
    # Four standard deviations of a binomial.
    return count / len(USERS) == pytest.approx(share, abs=4 * (share * (1 - share) / len(USERS)) ** 0.5)


def test_layers_split_independently():
    arm_pairs = Counter(
        (assignment.arm, assignment.layers["page"])
        for assignment in map(partial(assign_arms, _plan()), USERS)
    )
    assert len(arm_pairs) == 4
    assert all(_share(count, 0.25) for count in arm_pairs.values())


def test_a_holdout_sees_the_control_everywhere_and_moves_nobody_else():
    plan = _plan(holdout=0.1)
    assignments = {user: assign_arms(plan, user) for user in USERS}
    held_out = {user for user, assignment in assignments.items() if assignment.source == "holdout"}
    assert _share(len(held_out), 0.1)
    assert {(a.arm, a.model, a.layers["page"]) for a in map(assignments.get, held_out)} == {
        ("control", "a", "control")
    }
    assert all(assignments[user] == assign_arms(_plan(), user) for user in USERS if user not in held_out)


def test_another_salt_leaves_the_holdout_where_it_is():
    def held_out(salt: str) -> set[str]:
        return {
            user for user in USERS if assign_arms(_plan(holdout=0.1, salt=salt), user).source == "holdout"
        }

    assert held_out("1") == held_out("2")


def test_a_canary_answers_the_same_part_of_one_arm_and_grows():
    def tried(share: float) -> set[str]:
        arm = Arm(model="b", share=0.5, canary=Canary(model="next", share=share))
        plan = _plan(arms=ARMS | {"treatment": arm})
        assignments = {user: assign_arms(plan, user) for user in USERS}
        assert {assignment.arm for assignment in assignments.values() if assignment.model == "next"} == {
            "treatment"
        }
        return {user for user, assignment in assignments.items() if assignment.model == "next"}

    few, more = tried(0.1), tried(0.3)
    assert _share(len(few), 0.05)
    assert few < more


def test_a_holdout_meets_no_canary():
    control = Arm(model="a", share=0.5, canary=Canary(model="next", share=0.5))
    assignments = [assign_arms(_plan(arms=ARMS | {"control": control}, holdout=0.5), user) for user in USERS]
    assert {assignment.model for assignment in assignments if assignment.source == "holdout"} == {"a"}


def test_forced_arms_beat_every_draw_and_are_marked():
    for user in USERS[:20]:
        forced = assign_arms(_plan(holdout=0.5), user, {"ranker": "treatment"})
        assert (forced.arm, forced.model, forced.source) == ("treatment", "b", "forced")
        assert assign_arms(_plan(), user, {"page": "wide"}).layers == {"page": "wide"}


@pytest.mark.parametrize(
    ("text", "message"), [("color=red", "no experiment 'color'"), ("page=red", "no arm 'red'")]
)
def test_what_is_not_there_cannot_be_forced(text: str, message: str):
    with pytest.raises(UserError, match=message):
        assign_arms(_plan(), "u", parse_forced_arms(text))


def test_forced_arms_are_read_from_a_header():
    assert parse_forced_arms("ranker=treatment, page=wide") == {"ranker": "treatment", "page": "wide"}
    for text in ("", "treatment", "=treatment", "ranker=", "ranker=a,"):
        with pytest.raises(UserError, match="experiment=arm"):
            parse_forced_arms(text)
