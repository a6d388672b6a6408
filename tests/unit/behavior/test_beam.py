import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.behavior.decoding.semantic_id_beam import NO_CANDIDATE, build_semantic_id_index

NUM_ITEMS, WIDTH = 4000, 16


def catalogue(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items in nested groups: codes of two levels, and one that tells the group's members apart."""
    generator = torch.Generator().manual_seed(seed)
    first_code, second_code = (torch.randint(12, (NUM_ITEMS,), generator=generator) for _ in range(2))
    third_code = torch.arange(NUM_ITEMS) % 40
    coarse_centers, fine_centers = (torch.randn(12, WIDTH, generator=generator) for _ in range(2))
    vectors_ID = (
        coarse_centers[first_code]
        + 0.6 * fine_centers[second_code]
        + 0.3 * torch.randn(NUM_ITEMS, WIDTH, generator=generator)
    )
    prior_I = torch.log_softmax(torch.randn(NUM_ITEMS, generator=generator), 0)
    return torch.stack([first_code, second_code, third_code], 1), vectors_ID, prior_I


def queries(vectors: torch.Tensor) -> torch.Tensor:
    return vectors[::400] + 0.3 * torch.randn(10, WIDTH, generator=torch.Generator().manual_seed(1))


def test_the_shortlist_holds_the_best_items_with_exact_scores() -> None:
    codes_IL, vectors_ID, prior_I = catalogue()
    queries_BE = queries(vectors_ID)
    shortlist = build_semantic_id_index(codes_IL, vectors_ID, prior_I).search_items(
        queries_BE, 200, max_first_codes=6, max_pairs=24
    )
    exact_scores = queries_BE @ vectors_ID.T + prior_I
    torch.testing.assert_close(shortlist.scores_BM, exact_scores.gather(1, shortlist.items_BM))
    best_BK = exact_scores.topk(20, dim=1).indices
    assert (best_BK[:, :, None] == shortlist.items_BM[:, None]).any(2).float().mean() > 0.95


def test_a_beam_of_everything_is_exact() -> None:
    codes_IL, vectors_ID, prior_I = (array[:600] for array in catalogue())
    queries_BE = vectors_ID[::60]
    shortlist = build_semantic_id_index(codes_IL, vectors_ID, prior_I).search_items(
        queries_BE, 600, max_first_codes=12, max_pairs=144
    )
    torch.testing.assert_close(
        shortlist.scores_BM.topk(30).values, (queries_BE @ vectors_ID.T + prior_I).topk(30).values
    )


@settings(max_examples=25, deadline=None)
@given(left=st.integers(1, 30), levels=st.integers(1, 3), size=st.integers(1, 60))
def test_only_items_that_may_be_found_are(left: int, levels: int, size: int) -> None:
    codes_IL, vectors_ID, prior_I = (array[:200] for array in catalogue())
    prior_I = prior_I.clone()
    prior_I[left:] = -torch.inf
    shortlist = build_semantic_id_index(codes_IL[:, :levels], vectors_ID, prior_I).search_items(
        queries(vectors_ID.repeat(20, 1)), size
    )
    for items, query_scores in zip(shortlist.items_BM, shortlist.scores_BM, strict=True):
        chosen_items = items[items != NO_CANDIDATE]
        assert (chosen_items < left).all()
        assert len(chosen_items.unique()) == len(chosen_items)
        assert torch.equal(query_scores > -torch.inf, items != NO_CANDIDATE)
