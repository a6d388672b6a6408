from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from models.behavior.decoding.cooccurrence import fit_cooccurrence, load_cooccurrence, save_cooccurrence
from models.behavior.decoding.top_items import mix_trend_prior
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue
from models.behavior.sequences.sequence_tensors import SequenceBatch
from models.behavior.training.score_weights import ScoreWeights, fit_score_weights

BEHAVIORS = pl.DataFrame(
    {"user_id": ["a", "a", "b", "b", "b", "c", "c", "d"], "item": [0, 1, 0, 1, 3, 2, 3, 2]},
    schema_overrides={"item": pl.Int64},
)


def histories(rows: list[list[int]]) -> SequenceBatch:
    max_width = max(len(row) for row in rows)
    items = torch.tensor([[0] * (max_width - len(row)) + row for row in rows])
    is_valid = torch.tensor([[False] * (max_width - len(row)) + [True] * len(row) for row in rows])
    return SequenceBatch(items, is_valid.long(), torch.zeros(items.shape), is_valid)


def catalogue(item_ids: list[str]) -> BehaviorCatalogue:
    num_items = len(item_ids)
    return BehaviorCatalogue(
        item_ids=pl.Series(item_ids),
        codes=np.zeros((num_items, 1), np.int64),
        vectors=np.eye(num_items, dtype=np.float32),
        available_us=np.zeros(num_items, np.int64),
        space="space",
    )


def test_cooccurrence_is_the_closed_form_of_ease() -> None:
    vote_table = fit_cooccurrence(BEHAVIORS, 5, ridge=0.5)
    users_by_items = np.zeros((4, 5))
    users_by_items[[0, 0, 1, 1, 1, 2, 2, 3], BEHAVIORS["item"].to_numpy()] = 1
    inverse_II = np.linalg.inv(users_by_items.T @ users_by_items + 0.5 * np.eye(5))
    weights = -inverse_II / np.diag(inverse_II)
    np.fill_diagonal(weights, 0)
    expected_votes = weights.clip(0) / (weights.clip(0).sum(1, keepdims=True) + 0.05)
    votes_BI = vote_table.sum_votes(histories([[0], [2, 3]]))
    expected_sums = torch.from_numpy(
        np.stack([expected_votes[0], expected_votes[2] + expected_votes[3]])
    ).float()
    torch.testing.assert_close(votes_BI, expected_sums, atol=1e-5, rtol=1e-4)


def test_only_the_most_frequent_items_take_part() -> None:
    vote_table = fit_cooccurrence(BEHAVIORS, 5, ridge=0.5, max_items=2)
    votes_BI = vote_table.sum_votes(histories([[0], [3]]))
    assert votes_BI[0, 1] > 0
    assert votes_BI[0, [0, 2, 3, 4]].abs().max() == 0
    assert votes_BI[1].abs().max() == 0


def test_cooccurrence_outlives_a_change_of_the_catalogue(tmp_path: Path) -> None:
    vote_table = fit_cooccurrence(BEHAVIORS, 5, ridge=0.5)
    save_cooccurrence(tmp_path, vote_table, pl.Series(["p", "q", "r", "s", "t"]))
    loaded_table = load_cooccurrence(tmp_path, catalogue(["new", "p", "q", "s"]))
    votes_before, votes_after = (
        vote_table.sum_votes(histories([[0]]))[0],
        loaded_table.sum_votes(histories([[1]]))[0],
    )
    torch.testing.assert_close(
        votes_after, torch.tensor([0.0, votes_before[0], votes_before[1], votes_before[3]])
    )
    assert load_cooccurrence(tmp_path, catalogue(["other"])).sum_votes(histories([[0]])).item() == 0


@pytest.mark.parametrize("given", [ScoreWeights(), ScoreWeights(cooccurrence=0.7, complement=0.3)])
def test_weights_are_found_again(given: ScoreWeights) -> None:
    generator = torch.Generator().manual_seed(0)
    popularity_I = torch.randn(30, generator=generator)
    score_terms = (popularity_I, *(torch.randn(3000, 30, generator=generator) for _ in range(4)))
    true_weights = (0.8, 0.4, 1.5, given.cooccurrence, given.complement)
    scores_BI = sum(
        (weight * term for weight, term in zip(true_weights, score_terms, strict=True)), torch.zeros(())
    )
    is_excluded_BI = torch.rand(3000, 30, generator=generator) < 0.1
    items = torch.multinomial(
        scores_BI.masked_fill(is_excluded_BI, -torch.inf).softmax(1), 2, generator=generator
    )[:, :1]
    hidden_batch = SequenceBatch(items, items, items.float(), torch.ones(items.shape, dtype=torch.bool))
    fitted_weights = fit_score_weights(score_terms, is_excluded_BI, hidden_batch, given=given)
    assert fitted_weights.values == pytest.approx(true_weights, abs=0.1)


def test_the_prior_follows_recent_behaviors_where_there_are_many() -> None:
    ever_I, few_recent, many_recent = (
        np.array(item_counts, np.float32) for item_counts in ([80, 20, 0], [0, 1, 0], [0, 1000, 0])
    )
    assert mix_trend_prior(ever_I, few_recent).argmax() == 0
    assert mix_trend_prior(ever_I, many_recent).argmax() == 1
    assert mix_trend_prior(ever_I, few_recent).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert mix_trend_prior(ever_I, few_recent)[2].isfinite()
