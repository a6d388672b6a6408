"""The behavior model's confidence counts as far as it is right where nobody learned from the answers."""

import pytest
import torch

from models.ranker.network.confidence_fusion import ConfidenceFusion, Opinions, fit_fusion, stack_opinions

NUM_LISTS, NUM_CANDIDATES = 400, 20


def _make_opinions(*, knows: float) -> Opinions:
    """Lists whose click the ranker guesses a little, and the behavior model by `knows`."""
    random = torch.Generator().manual_seed(1)
    shape = (NUM_LISTS, NUM_CANDIDATES)
    clicked = torch.randint(NUM_CANDIDATES, (NUM_LISTS, 1), generator=random)
    labels = torch.zeros(shape).scatter_(1, clicked, 1.0)
    confidences = (knows * labels + torch.randn(shape, generator=random)).clamp_min(0)
    return Opinions(torch.randn(shape, generator=random) + labels, confidences, torch.ones(shape), labels)


def _make_fusion() -> ConfidenceFusion:
    torch.manual_seed(0)
    return ConfidenceFusion()


def test_nothing_is_added_before_the_fit() -> None:
    opinions = _make_opinions(knows=2)
    assert not _make_fusion()(opinions.clicks, opinions.confidences).any()


def test_what_the_behavior_model_knows_is_added() -> None:
    fusion, opinions = _make_fusion(), _make_opinions(knows=2)
    assert fit_fusion(fusion, opinions, seed=0) > 0.1
    low, high = fusion(torch.zeros(1, 2), torch.tensor([[0.0, 3.0]]))[0]
    assert high > low


def test_what_does_not_pay_is_left_out() -> None:
    fusion, opinions = _make_fusion(), _make_opinions(knows=0)
    assert fit_fusion(fusion, opinions, seed=0) == pytest.approx(0, abs=0.02)
    for num_lists in (1, 2, 3, 19):
        few = Opinions(*(values[:num_lists] for values in opinions))
        assert fit_fusion(_make_fusion(), few, seed=0) == 0


def test_the_same_seed_gives_the_same_weights() -> None:
    opinions, fitted = _make_opinions(knows=1), []
    for _ in range(2):
        fusion = _make_fusion()
        fit_fusion(fusion, opinions, seed=3)
        fitted.append(fusion(opinions.clicks, opinions.confidences))
    torch.testing.assert_close(*fitted, rtol=0, atol=0)


def test_shorter_lists_are_padded() -> None:
    opinions = _make_opinions(knows=1)
    shorter_lists = Opinions(*(values[:, :5] for values in opinions))
    stacked_opinions = stack_opinions([opinions, shorter_lists])
    assert stacked_opinions.mask.shape == (2 * NUM_LISTS, NUM_CANDIDATES)
    assert stacked_opinions.mask[NUM_LISTS:].sum() == NUM_LISTS * 5
