"""A log with a planted pattern: every user keeps to one of eight groups of eight items."""

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.behavior.hidden_behaviors import Task
from benchmarks.behavior.peers.log import PeerLog, make_peer_log

NUM_GROUPS, PER_GROUP, NUM_USERS, NUM_VISIBLE = 8, 8, 240, 5
NUM_ITEMS = NUM_GROUPS * PER_GROUP


def planted_task() -> Task:
    rng = np.random.default_rng(0)
    group = np.arange(NUM_USERS) % NUM_GROUPS
    items = group[:, None] * PER_GROUP + np.argsort(rng.random((NUM_USERS, PER_GROUP)), axis=1)
    user = np.arange(NUM_USERS).repeat(NUM_VISIBLE)
    hidden_user = np.arange(NUM_USERS).repeat(PER_GROUP - NUM_VISIBLE)
    time_us = np.tile(np.arange(NUM_VISIBLE), NUM_USERS)
    return Task(
        name="planted",
        dataset=Path(),
        users=pl.Series([f"u{n:03d}" for n in range(NUM_USERS)]),
        item_ids=pl.Series([f"i{n:02d}" for n in range(NUM_ITEMS)]),
        visible=pl.DataFrame({"user": user, "item": items[:, :NUM_VISIBLE].ravel(), "time_us": time_us}),
        hidden=pl.DataFrame({"user": hidden_user, "item": items[:, NUM_VISIBLE:].ravel()}),
        is_validation=np.arange(NUM_USERS) % 5 == 0,
    )


def planted_log() -> PeerLog:
    rng = np.random.default_rng(1)
    number = np.arange(NUM_ITEMS)
    vectors = np.eye(NUM_GROUPS, 16)[number // PER_GROUP] + 0.1 * rng.standard_normal((NUM_ITEMS, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    codes = np.stack([number // PER_GROUP, number % PER_GROUP // 2, number % 2], axis=1)
    return make_peer_log(planted_task(), vectors, codes)
