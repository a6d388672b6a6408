"""Candidates are seen among those they compete with, and against what the user did."""

import torch

from contracts.tables import EVENT_TYPES
from models.ranker.inputs.item_encoder import EVENT_TYPE_INDEX, NUM_SCENES, SCENE_INDEX, UNKNOWN
from models.ranker.network.behavior_counts import COUNTED_TYPES, BehaviorCounts, make_type_weights
from models.ranker.network.list_composition import ListComposition
from models.ranker.network.request_context import PageContext
from models.ranker.network.vector_similarities import compare_candidates, compare_with_context


def _compose(categories: list[int], kinds: list[int], mask: list[float] | None = None) -> torch.Tensor:
    """Readings [F, C] of one list whose items have one-hot vectors by kind."""
    vectors = torch.eye(8)[torch.tensor(kinds)].unsqueeze(0)
    codes = {"categories": torch.tensor([categories])}
    mask_BC = torch.tensor([mask or [1.0] * len(kinds)])
    composition = ListComposition(["categories"], num_aspects=2)
    readings = composition(*compare_candidates(vectors, (8,)), codes, mask_BC)
    assert readings.shape == (1, composition.width, len(kinds))
    return readings[0]


def test_the_kind_that_fills_the_list_reads_one_and_the_odd_item_nothing() -> None:
    readings = _compose(categories=[5, 5, 5, 6], kinds=[1, 1, 1, 2])
    same_kind, same_category = readings[11], readings[24]
    torch.testing.assert_close(same_kind[:3], torch.ones(3), atol=0.02, rtol=0)
    torch.testing.assert_close(same_category[:3], torch.ones(3), atol=0.02, rtol=0)
    assert same_kind[3] < 0.01
    assert same_category[3] == 0


def test_a_page_and_a_pool_are_read_alike() -> None:
    page = _compose(categories=[5, 5, 5, 6], kinds=[1, 1, 1, 2])
    pool = _compose(categories=[5, 5, 5, 6, 7, 8, 9, 4], kinds=[1, 1, 1, 2, 3, 4, 5, 6])
    torch.testing.assert_close(page[[11, 24]], pool[[11, 24], :4], atol=0.02, rtol=0)


def test_padding_is_no_candidate_and_the_unknown_are_not_alike() -> None:
    padded = _compose(categories=[5, 5, 6, 0, 0], kinds=[1, 1, 2, 0, 0], mask=[1, 1, 1, 0, 0])
    torch.testing.assert_close(padded[:, :3], _compose(categories=[5, 5, 6], kinds=[1, 1, 2]))
    unknown = _compose(categories=[UNKNOWN, UNKNOWN, 6], kinds=[1, 3, 2])
    assert unknown[24].abs().max() == 0


def test_each_gate_begins_by_counting_one_kind_of_event() -> None:
    weights = torch.exp(make_type_weights(6))
    for gate in range(6):
        counted = COUNTED_TYPES[gate % len(COUNTED_TYPES)]
        by_type = {name: float(weights[EVENT_TYPE_INDEX[name], gate]) for name in EVENT_TYPES}
        assert by_type.pop(counted) == 1
        assert max(by_type.values()) < 0.01


def test_behaviors_are_counted_by_category_and_prices_compared_with_the_users_level() -> None:
    counts = BehaviorCounts(["ids", "categories", "price_buckets"], num_gates=1, num_prices=10)
    candidates = {
        "categories": torch.tensor([[5, 6, UNKNOWN]]),
        "price_buckets": torch.tensor([[4, 8, UNKNOWN]]),
    }
    history = {
        "categories": torch.tensor([[5, 5, UNKNOWN, 0]]),
        "price_buckets": torch.tensor([[4, 4, 4, 0]]),
    }
    gates = torch.tensor([[[1.0, 1.0, 1.0, 0.0]]])
    readings = counts(candidates, history, gates, torch.ones(1, 3))[0]
    assert readings.shape == (counts.width, 3)
    active, by_category, _, against_user = readings[:4].square()
    torch.testing.assert_close(active, torch.full((3,), 3.01))
    torch.testing.assert_close(by_category, torch.tensor([2.01, 0.01, 0.01]))
    assert against_user[0] < 1e-4 < against_user[1]
    assert against_user[2] == 0


def test_a_page_that_says_nothing_reads_nothing_but_its_scene() -> None:
    context = PageContext(8, num_aspects=1)
    candidates, scene = torch.ones(1, 3, 8), torch.tensor([[SCENE_INDEX["search"]]])
    similarity = compare_with_context(torch.eye(8)[None, :3], torch.zeros(1, 1, 8), (8,))
    in_scene, readings = context(candidates, scene, similarity, torch.ones(1, 3))
    assert in_scene.abs().max() == 0, "a scene says nothing before it has learned"
    assert readings.shape == (1, context.width, 3)
    assert readings[0, :NUM_SCENES, 0].nonzero().flatten().tolist() == [SCENE_INDEX["search"]]
    assert readings[0, NUM_SCENES:].abs().max() == 0


def test_candidates_are_read_by_how_like_the_query_they_are_and_against_the_best() -> None:
    context = PageContext(8, num_aspects=1)
    query = torch.eye(8)[None, 1:2]
    similarity = compare_with_context(torch.eye(8)[None, :3], query, (8,))
    _, readings = context(torch.ones(1, 3, 8), torch.tensor([[1]]), similarity, torch.ones(1, 3))
    assert readings[0, NUM_SCENES].tolist() == [0, 1, 0]
    assert readings[0, NUM_SCENES + 1].tolist() == [-1, 0, -1]
    no_list_says = compare_with_context(torch.eye(8)[None, :3], torch.zeros(1, 1, 0), (8,))
    assert no_list_says.abs().max() == 0
