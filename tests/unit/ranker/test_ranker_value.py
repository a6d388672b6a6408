"""The third head: what an order brings, and so what may be expected of showing a candidate."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from ranker_shop import make_events, make_requests, make_shop, tiny_config

from contracts.dataset import read_dataset
from models.ranker.evaluation.exported_ranker import ExportedRanker
from models.ranker.evaluation.measure_ranker import measure_ranker
from models.ranker.inputs.ranker_spec import RankerSpec
from models.ranker.lists.encode_catalogue import read_item_vectors
from models.ranker.lists.encode_lists import TRAINING_SET_FILE, encode_lists
from models.ranker.lists.mapped_lists import RankingLists
from models.ranker.training.list_batches import ListBatch
from models.ranker.training.ranking_loss import compute_value_loss
from models.ranker.training.train_ranker import train_ranker

DEAR = 20
"""Items from this number on cost ten times as much."""


@pytest.fixture(scope="module")
def scored_lists(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportedRanker, RankingLists]:
    root = tmp_path_factory.mktemp("value")
    number = pl.col("item_id").str.strip_prefix("i").cast(pl.Int64)
    events = make_events().with_columns(price=pl.when(number >= DEAR).then(100.0).otherwise(10.0))
    shop = make_shop(root, make_requests(events))
    config = tiny_config(value_weight=0.01, dim=32, min_steps=400)
    train_ranker(*shop.inputs, config, checkpoints=root / "checkpoints", out=root / "ranker")
    vectors, space, _ = read_item_vectors(shop.inputs.item_embeddings)
    ranker = ExportedRanker(
        root / "ranker", read_dataset(shop.inputs.dataset).items, vectors, space=space, num_threads=1
    )
    rows = encode_lists(
        shop.inputs.training_set / TRAINING_SET_FILE,
        ranker.table.item_id_enum,
        split="validation",
        protocol="impressions",
        lengths=(10, 4),
        scratch=root / "rows",
    )
    return ranker, rows


def test_dear_items_are_worth_more(scored_lists: tuple[ExportedRanker, RankingLists]) -> None:
    ranker, rows = scored_lists
    scores = ranker.score_lists(rows, batch_size=64)
    assert scores.value is not None
    spend = scores.value / scores.order
    is_dear = np.asarray(rows.candidates) >= DEAR + 2
    assert spend[is_dear].mean() > 1.3 * spend[~is_dear].mean()
    np.testing.assert_allclose(scores.score, scores.click + scores.order + 0.01 * scores.value, rtol=1e-4)


def test_expected_revenue_is_what_validation_lists_earned(
    scored_lists: tuple[ExportedRanker, RankingLists],
) -> None:
    ranker, rows = scored_lists
    summary = measure_ranker(rows, ranker.score_lists(rows, batch_size=64), np.arange(len(rows))).summary
    assert summary["expected_over_earned"] == pytest.approx(1, abs=0.01)


def test_the_artifact_says_that_it_has_the_head(
    scored_lists: tuple[ExportedRanker, RankingLists], ranker: Path
) -> None:
    assert [tensor.name for tensor in scored_lists[0].spec.outputs] == ["click", "order", "score", "value"]
    assert "value" not in [tensor.name for tensor in RankerSpec.read(ranker).outputs]


def test_the_loss_is_least_at_the_mean() -> None:

    revenues = torch.tensor([[1.0, 2.0, 9.0, 5.0]])
    blank = dict.fromkeys(ListBatch._fields)
    batch = ListBatch(**(blank | {"orders_BC": torch.tensor([[1.0, 1, 1, 0]]), "values_BC": revenues}))
    usual = torch.tensor(2.0)
    losses = {
        mean: float(compute_value_loss(torch.full((1, 4), np.log(mean / 2)), batch, batch, usual))
        for mean in (3, 4, 5)
    }
    assert min(losses, key=losses.__getitem__) == 4
