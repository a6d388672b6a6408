from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.ranker.cost import CANDIDATES, write_random_inputs
from benchmarks.ranker.ladder import OVER, RUNGS
from benchmarks.ranker.peers.batches import PeerRows, iter_batches, take_lists
from benchmarks.ranker.peers.run import compute_ndcg10
from benchmarks.ranker.score import (
    ASPECTS,
    NUM_CANDIDATES,
    build_bare_products,
    draw_random_feed,
    export_untrained,
)
from benchmarks.ranker.trials import Trial, make_trial_rows
from contracts.artifacts import read_table
from contracts.tables import TRAINING_SET
from models.ranker.config import IDS_ONLY, RankerConfig

ROWS = PeerRows(
    offsets=np.array([0, 3, 5]),
    candidates=np.array([7, 8, 9, 5, 6]),
    clicks=np.array([False, True, False, True, False]),
    history=np.array([[1, 2], [3, 0]]),
)


def test_bare_products_have_the_shapes_of_the_graph(tmp_path: Path) -> None:
    config = RankerConfig(history_length=6, inferred_length=4)
    spec = export_untrained(config, tmp_path / "r.onnx")
    feed = draw_random_feed(spec, np.random.default_rng(0))
    assert feed["candidate_vectors"].shape == (1, NUM_CANDIDATES, sum(ASPECTS))
    model = onnx.load(tmp_path / "r.onnx")
    products, inputs = build_bare_products(model, feed)
    wanted = {node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm", "Einsum")}
    assert {node.name for node in products.graph.node} == wanted
    assert (1, NUM_CANDIDATES, ASPECTS[0]) in {values.shape for values in inputs.values()}


def test_every_candidate_comes_once_with_its_own_history() -> None:
    for rng in (None, np.random.default_rng(0)):
        seen = [
            (int(candidate), float(click), tuple(history))
            for batch in iter_batches(ROWS, 2, rng)
            for candidate, click, history in zip(*batch, strict=True)
        ]
        assert sorted(seen) == [
            (5, 1, (3, 0)),
            (6, 0, (3, 0)),
            (7, 0, (1, 2)),
            (8, 1, (1, 2)),
            (9, 0, (1, 2)),
        ]


def test_a_part_of_the_lists_keeps_them_whole() -> None:
    assert all(np.array_equal(a, b) for a, b in zip(take_lists(ROWS, 5), ROWS, strict=True))
    one = take_lists(ROWS, 1)
    assert one.candidates.tolist() == [7, 8, 9]
    assert one.clicks.tolist() == [False, True, False]


def test_ndcg_of_one_target() -> None:
    scores = np.array([0.1, 0.9, 0.2, 0.3, 0.4], np.float32)
    assert compute_ndcg10(scores, ROWS) == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert compute_ndcg10(np.ones(5, np.float32), ROWS) < 0.6, "ties count against the ranker"


def test_ratios_of_the_ladder_are_taken_seed_by_seed() -> None:
    values = {("full", 0): 0.3, ("full", 1): 0.2, ("ids", 0): 0.1, ("ids", 1): 0.1}
    metrics = ("ndcg10", "cold_ndcg10")
    found = {Trial("d", rung, seed): dict.fromkeys(metrics, value) for (rung, seed), value in values.items()}
    rows = {row.id: row for row in make_trial_rows("ranker", found, OVER)}
    assert rows["ranker.d.full_over_ids.ndcg10_ratio"].value == pytest.approx(2.5)
    assert rows["ranker.d.full_over_ids.ndcg10_ratio"].seeds == [0, 1]
    assert "ranker.d.full_over_text.ndcg10_ratio" not in rows, "a rung that was not measured"
    assert RUNGS["ids"].features == IDS_ONLY


def test_lists_for_the_cost_keep_the_contract(tmp_path: Path) -> None:
    write_random_inputs(tmp_path, 30)
    rows = read_table(tmp_path / "training_set" / "training_set.parquet", TRAINING_SET)
    assert len(rows) == 30
    assert (rows["item_ids"].list.len() == CANDIDATES).all()
    assert (rows["clicks"].list.sum() == 1).all()
