from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.experiments.arm_assignment import draw_arm, hash_to_unit_interval

USERS = [f"user_{number}" for number in range(20_000)]
SHARES = {"control": 0.5, "treatment": 0.3, "holdout": 0.2}


def test_arms_get_their_shares():
    counts = Counter(draw_arm(user, SHARES, experiment="ranker", salt="1") for user in USERS)
    for arm, share in SHARES.items():
        # Four standard deviations of a binomial.
        assert counts[arm] / len(USERS) == pytest.approx(
            share, abs=4 * (share * (1 - share) / len(USERS)) ** 0.5
        )


@given(st.text(min_size=1))
def test_an_arm_is_sticky(user):
    assert draw_arm(user, SHARES, experiment="e", salt="1") == draw_arm(
        user, SHARES, experiment="e", salt="1"
    )
    assert 0 <= hash_to_unit_interval(user, experiment="e", salt="1") < 1


def test_growing_an_arm_moves_only_users_into_it():
    before = {user: draw_arm(user, {"new": 0.1, "old": 0.9}, experiment="e", salt="1") for user in USERS}
    after = {user: draw_arm(user, {"new": 0.2, "old": 0.8}, experiment="e", salt="1") for user in USERS}
    assert all(after[user] == "new" for user in USERS if before[user] == "new")


def test_experiments_and_salts_split_independently():
    halves = {"a": 0.5, "b": 0.5}
    for other in ({"experiment": "f", "salt": "1"}, {"experiment": "e", "salt": "2"}):
        arm_pairs = Counter(
            (draw_arm(user, halves, experiment="e", salt="1"), draw_arm(user, halves, **other))
            for user in USERS
        )
        assert all(count / len(USERS) == pytest.approx(0.25, abs=0.02) for count in arm_pairs.values())


def test_the_split_never_changes_between_releases():
    arms = [draw_arm(f"user_{n}", SHARES, experiment="ranker", salt="1") for n in range(5)]
    assert arms == ["holdout", "treatment", "control", "control", "holdout"]
