"""Experiment arms: who sees what, by a salted hash of the user, the same on every gateway and after every restart."""

import hashlib
from collections.abc import Mapping


def assign_arm(user_id: str, shares: Mapping[str, float], *, experiment: str, salt: str) -> str:
    """Returns the user's arm.

    Args:
        user_id: the unit of the experiment.
        shares: arm -> share of the users; they sum to one. Their order matters.
        experiment: name of the experiment, so that two experiments split independently.
        salt: change it to draw the arms anew.
    """
    place = bucket(user_id, experiment=experiment, salt=salt)
    reached = 0.0
    for arm, share in shares.items():
        reached += share
        if place < reached:
            return arm
    # Shares that sum to a hair below one.
    return arm


def bucket(user_id: str, *, experiment: str, salt: str) -> float:
    """The user's place in [0, 1)."""
    digest = hashlib.sha256(f"{experiment}\0{salt}\0{user_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
