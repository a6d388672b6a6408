import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.behavior.choice import SUREST, Choice, choose, gumbel_noise

USERS = np.arange(4, dtype=np.uint32)
ITEMS = torch.arange(30).expand(4, 30)
VECTORS = torch.nn.functional.normalize(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), dim=1)


def scores(seed: int = 0) -> torch.Tensor:
    return torch.rand(4, 30, generator=torch.Generator().manual_seed(seed)).softmax(1)


def pick(given_scores: torch.Tensor, choice: Choice, num_items: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return choose(given_scores, ITEMS, VECTORS, USERS, num_items=num_items, choice=choice)


@settings(max_examples=40, deadline=None)
@given(
    temperature=st.sampled_from([0.0, 0.5, 3.0]),
    diversity=st.sampled_from([0.0, 2.0]),
    left=st.integers(0, 8),
    seed=st.integers(0, 50),
)
def test_lists_hold_what_may_be_chosen_once_and_surest_first(
    temperature: float, diversity: float, left: int, seed: int
) -> None:
    allowed = scores(seed)
    allowed[:, left:] = 0
    items, found = pick(allowed, Choice(temperature, diversity, seed))
    assert (found.diff() <= 0).all()
    assert ((found > 0).sum(1) == min(left, 5)).all()
    for row in range(4):
        chosen = items[row][found[row] > 0]
        assert len(chosen.unique()) == len(chosen)
        assert (chosen < left).all()
        assert torch.equal(found[row][found[row] > 0], allowed[row, chosen])


def test_little_temperature_is_none_and_much_is_chance() -> None:
    surest = pick(scores(), SUREST)
    assert torch.equal(pick(scores(), Choice(temperature=1e-4))[0], surest[0])
    drawn = [pick(scores(), Choice(temperature=1.0, seed=seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], surest[0])


def test_draws_follow_the_probabilities() -> None:
    users = np.arange(20_000, dtype=np.uint32)
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    items, _ = choose(
        probabilities.expand(20_000, 3),
        torch.arange(3).expand(20_000, 3),
        VECTORS[:3],
        users,
        num_items=1,
        choice=Choice(temperature=1.0),
    )
    shares = torch.bincount(items[:, 0], minlength=3) / 20_000
    torch.testing.assert_close(shares, probabilities, atol=0.015, rtol=0)


def test_a_users_draws_do_not_depend_on_the_batch() -> None:
    noise = gumbel_noise(ITEMS, USERS, seed=3)
    torch.testing.assert_close(noise[2:3], gumbel_noise(ITEMS[2:3], USERS[2:3], seed=3))
    assert not torch.equal(noise[0], noise[1])


def test_diversity_makes_lists_less_alike() -> None:
    def likeness(choice: Choice) -> float:
        vectors = VECTORS[pick(scores(), choice)[0]]
        return float((vectors @ vectors.mT).mean())

    assert likeness(Choice(diversity=5.0)) < likeness(Choice(diversity=0.5)) < likeness(SUREST)
