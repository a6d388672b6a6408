"""The re-ranker finds the feature that tells the target, and only within lists."""

import numpy as np
import torch

from benchmarks.reranker import fit_reranker, ndcg10, score


def lists(num_lists: int = 300, num_candidates: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clicked = rng.integers(0, num_candidates - 2, num_lists)
    mask = np.ones((num_lists, num_candidates), bool)
    mask[::2, -2:] = False
    features = rng.standard_normal((num_lists, num_candidates, 2)).astype(np.float32)
    features[np.arange(num_lists), clicked, 0] += 3
    features[:, :, 1] += 10 * rng.standard_normal((num_lists, 1))
    return features, mask, clicked


def test_learns_what_tells_the_target() -> None:
    torch.set_num_threads(1)
    features, mask, clicked = lists()
    model = fit_reranker(features[:200], mask[:200], clicked[:200], seed=0)
    scores = score(model, torch.from_numpy(features), torch.from_numpy(mask)).numpy()
    assert ndcg10(scores[200:], clicked[200:]).mean() > 0.8
    assert ndcg10(scores[200:], clicked[200:]).mean() > ndcg10(features[200:, :, 1], clicked[200:]).mean() + 0.2
    assert (scores[~mask] < scores[mask].min()).all()


def test_equal_scores_gain_nothing_by_their_order() -> None:
    first, last = ndcg10(np.zeros((2, 100), np.float32), np.array([0, 99]))
    assert 0 < first == last < 0.1
    assert np.array_equal(ndcg10(np.eye(2, 5, dtype=np.float32), np.array([0, 1])), [1.0, 1.0])
