from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from models.behavior.catalogue import Catalogue
from models.behavior.config import CooccurrenceConfig
from models.behavior.cooccurrence import fit_cooccurrence, load_cooccurrence, save_cooccurrence
from models.behavior.mixture import fit_weights
from models.behavior.recommend import smoothed_prior
from models.behavior.tensors import Batch

BEHAVIORS = pl.DataFrame(
    {"user_id": ["a", "a", "b", "b", "b", "c", "c", "d"], "item": [0, 1, 0, 1, 3, 2, 3, 2]},
    schema_overrides={"item": pl.Int64},
)


def histories(rows: list[list[int]]) -> Batch:
    width = max(len(row) for row in rows)
    items = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    valid = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    return Batch(items, valid.long(), torch.zeros(items.shape), valid)


def catalogue(item_ids: list[str]) -> Catalogue:
    size = len(item_ids)
    return Catalogue(
        item_ids=pl.Series(item_ids),
        codes=np.zeros((size, 1), np.int64),
        vectors=np.eye(size, dtype=np.float32),
        available_us=np.zeros(size, np.int64),
        space="space",
    )


def test_cooccurrence_is_the_closed_form_of_ease() -> None:
    table = fit_cooccurrence(BEHAVIORS, 5, CooccurrenceConfig(ridge=0.5))
    matrix = np.zeros((4, 5))
    matrix[[0, 0, 1, 1, 1, 2, 2, 3], BEHAVIORS["item"].to_numpy()] = 1
    inverse = np.linalg.inv(matrix.T @ matrix + 0.5 * np.eye(5))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    votes = weights.clip(0) / (weights.clip(0).sum(1, keepdims=True) + 0.05)
    said = table.sum_over(histories([[0], [2, 3]]))
    expected = torch.from_numpy(np.stack([votes[0], votes[2] + votes[3]])).float()
    torch.testing.assert_close(said, expected, atol=1e-5, rtol=1e-4)


def test_only_the_most_frequent_items_take_part() -> None:
    table = fit_cooccurrence(BEHAVIORS, 5, CooccurrenceConfig(ridge=0.5, max_items=2))
    said = table.sum_over(histories([[0], [3]]))
    assert said[0, 1] > 0
    assert said[0, [0, 2, 3, 4]].abs().max() == 0
    assert said[1].abs().max() == 0


def test_cooccurrence_outlives_a_change_of_the_catalogue(tmp_path: Path) -> None:
    table = fit_cooccurrence(BEHAVIORS, 5, CooccurrenceConfig(ridge=0.5))
    save_cooccurrence(tmp_path, table, pl.Series(["p", "q", "r", "s", "t"]))
    loaded = load_cooccurrence(tmp_path, catalogue(["new", "p", "q", "s"]))
    before, after = table.sum_over(histories([[0]]))[0], loaded.sum_over(histories([[1]]))[0]
    torch.testing.assert_close(after, torch.tensor([0.0, before[0], before[1], before[3]]))
    assert load_cooccurrence(tmp_path, catalogue(["other"])).sum_over(histories([[0]])).item() == 0


@pytest.mark.parametrize("cooccurrence", [0.0, 0.7])
def test_weights_are_found_again(cooccurrence: float) -> None:
    generator = torch.Generator().manual_seed(0)
    popularity = torch.randn(30, generator=generator)
    parts = (popularity, *(torch.randn(3000, 30, generator=generator) for _ in range(3)))
    true = (0.8, 0.4, 1.5, cooccurrence)
    scores = sum((weight * part for weight, part in zip(true, parts, strict=True)), torch.zeros(()))
    excluded = torch.rand(3000, 30, generator=generator) < 0.1
    items = torch.multinomial(scores.masked_fill(excluded, -torch.inf).softmax(1), 2, generator=generator)[:, :1]
    hidden = Batch(items, items, items.float(), torch.ones(items.shape, dtype=torch.bool))
    fitted = fit_weights(parts, excluded, hidden, cooccurrence=cooccurrence)
    assert fitted.values == pytest.approx(true, abs=0.1)


def test_the_prior_follows_recent_behaviours_where_there_are_many() -> None:
    ever, few, many = (np.array(counts, np.float32) for counts in ([80, 20, 0], [0, 1, 0], [0, 1000, 0]))
    assert smoothed_prior(ever, few).argmax() == 0
    assert smoothed_prior(ever, many).argmax() == 1
    assert smoothed_prior(ever, few).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert smoothed_prior(ever, few)[2].isfinite()
