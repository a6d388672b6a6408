"""The third head: what an order brings, and so what may be expected of showing a candidate."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from ranker_shop import make_events, make_requests, make_shop, tiny_config

from contracts.dataset import read_dataset
from models.ranker.batches import Batch
from models.ranker.measure import measure
from models.ranker.objective import value_loss
from models.ranker.records import RankingRows
from models.ranker.rows import encode_rows, read_vectors
from models.ranker.scoring import ExportedRanker
from models.ranker.spec import RankerSpec
from models.ranker.train import TRAINING_SET_FILE, train_ranker

DEAR = 20
"""Items from this number on cost ten times as much."""


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportedRanker, RankingRows]:
    root = tmp_path_factory.mktemp("value")
    number = pl.col("item_id").str.strip_prefix("i").cast(pl.Int64)
    events = make_events().with_columns(price=pl.when(number >= DEAR).then(100.0).otherwise(10.0))
    shop = make_shop(root, make_requests(events))
    config = tiny_config(value_head=True, value_weight=0.01, min_steps=400)
    train_ranker(*shop.inputs, config, checkpoints=root / "checkpoints", out=root / "ranker")
    vectors, space, _ = read_vectors(shop.inputs.item_embeddings)
    ranker = ExportedRanker(
        root / "ranker", read_dataset(shop.inputs.dataset).items, vectors, space=space, num_threads=1
    )
    rows = encode_rows(
        shop.inputs.training_set / TRAINING_SET_FILE,
        ranker.table.names,
        split="validation",
        protocol="impressions",
        lengths=(10, 4),
        scratch=root / "rows",
    )
    return ranker, rows


def test_dear_items_are_worth_more(scored: tuple[ExportedRanker, RankingRows]) -> None:
    ranker, rows = scored
    found = ranker.score(rows, batch_size=64)
    assert found.value is not None
    spend = found.value / found.order
    is_dear = np.asarray(rows.candidates) >= DEAR + 2
    assert spend[is_dear].mean() > 1.3 * spend[~is_dear].mean()
    np.testing.assert_allclose(found.score, found.click + found.order + 0.01 * found.value, rtol=1e-4)


def test_expected_revenue_is_what_validation_lists_earned(scored: tuple[ExportedRanker, RankingRows]) -> None:
    ranker, rows = scored
    summary = measure(rows, ranker.score(rows, batch_size=64), np.arange(len(rows))).summary
    assert summary["expected_over_earned"] == pytest.approx(1, abs=0.01)


def test_the_artifact_says_that_it_has_the_head(scored: tuple[ExportedRanker, RankingRows], ranker: Path) -> None:
    assert [tensor.name for tensor in scored[0].spec.outputs] == ["click", "order", "score", "value"]
    assert "value" not in [tensor.name for tensor in RankerSpec.read(ranker).outputs]


def test_a_weight_needs_the_head() -> None:
    with pytest.raises(ValidationError, match="needs value_head = true"):
        tiny_config(value_weight=1.0)


def test_the_loss_is_least_at_the_mean() -> None:

    revenues = torch.tensor([[1.0, 2.0, 9.0, 5.0]])
    blank = dict.fromkeys(Batch._fields)
    batch = Batch(**(blank | {"orders_BC": torch.tensor([[1.0, 1, 1, 0]]), "values_BC": revenues}))
    usual = torch.tensor(2.0)
    losses = {mean: float(value_loss(torch.full((1, 4), np.log(mean / 2)), batch, batch, usual)) for mean in (3, 4, 5)}
    assert min(losses, key=losses.__getitem__) == 4
