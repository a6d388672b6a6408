import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.behavior.beam import NOTHING, build_index

NUM_ITEMS, WIDTH = 4000, 16


def catalogue(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items in nested groups: codes of two levels, and one that tells the group's members apart."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(12, (NUM_ITEMS,), generator=generator) for _ in range(2))
    third = torch.arange(NUM_ITEMS) % 40
    coarse, fine = (torch.randn(12, WIDTH, generator=generator) for _ in range(2))
    vectors = coarse[first] + 0.6 * fine[second] + 0.3 * torch.randn(NUM_ITEMS, WIDTH, generator=generator)
    prior = torch.log_softmax(torch.randn(NUM_ITEMS, generator=generator), 0)
    return torch.stack([first, second, third], 1), vectors, prior


def queries(vectors: torch.Tensor) -> torch.Tensor:
    return vectors[::400] + 0.3 * torch.randn(10, WIDTH, generator=torch.Generator().manual_seed(1))


def test_the_shortlist_holds_the_best_items_with_exact_scores() -> None:
    codes, vectors, prior = catalogue()
    asked = queries(vectors)
    found = build_index(codes, vectors, prior).search(asked, 200, first=6, pairs=24)
    exact = asked @ vectors.T + prior
    torch.testing.assert_close(found.scores_bm, exact.gather(1, found.items_bm))
    best = exact.topk(20, dim=1).indices
    assert (best[:, :, None] == found.items_bm[:, None]).any(2).float().mean() > 0.95


def test_a_beam_of_everything_is_exact() -> None:
    codes, vectors, prior = (part[:600] for part in catalogue())
    asked = vectors[::60]
    found = build_index(codes, vectors, prior).search(asked, 600, first=12, pairs=144)
    torch.testing.assert_close(found.scores_bm.topk(30).values, (asked @ vectors.T + prior).topk(30).values)


@settings(max_examples=25, deadline=None)
@given(left=st.integers(1, 30), levels=st.integers(1, 3), size=st.integers(1, 60))
def test_only_items_that_may_be_found_are(left: int, levels: int, size: int) -> None:
    codes, vectors, prior = (part[:200] for part in catalogue())
    prior = prior.clone()
    prior[left:] = -torch.inf
    found = build_index(codes[:, :levels], vectors, prior).search(queries(vectors.repeat(20, 1)), size)
    for items, scores in zip(found.items_bm, found.scores_bm, strict=True):
        chosen = items[items != NOTHING]
        assert (chosen < left).all()
        assert len(chosen.unique()) == len(chosen)
        assert torch.equal(scores > -torch.inf, items != NOTHING)
