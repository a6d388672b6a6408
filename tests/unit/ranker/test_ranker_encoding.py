from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from ranker_shop import DIM, Shop, item_rows

from contracts.dataset import Dataset, before
from contracts.errors import UserError
from models.ranker.config import WITHOUT_KNOWLEDGE, FeatureConfig
from models.ranker.encoding import PADDING, UNKNOWN, ItemEncoder, ItemRows, encode_event_types, encode_request
from models.ranker.feed import build_feed
from models.ranker.records import RowWriter
from models.ranker.rows import encode_catalogue, encode_rows, read_vectors
from models.ranker.spec import RankerSpec, TensorSpec, input_specs


def _encoder(data: Dataset) -> ItemEncoder:
    seen = before(data.events, data.split.train_end)["item_id"].unique()[:30]
    return ItemEncoder.fit(data.items, training_ids=seen, num_price_buckets=4, dim=DIM)


def test_what_training_did_not_see_is_unknown(data: Dataset) -> None:
    encoder = _encoder(data)
    known = next(iter(encoder.vocabularies["item"]))
    rows = ItemRows([known, "new"], ["all > c1", None], ["b1", "no such"], [12.0, None], None)
    encoded = encoder.encode(rows)
    assert encoded.ids[0] > UNKNOWN
    assert encoded.ids[1] == encoded.categories[1] == encoded.brands[1] == encoded.price_buckets[1] == UNKNOWN
    assert not encoded.vectors.any()


def test_price_buckets_are_quantiles(data: Dataset) -> None:
    encoder = _encoder(data)
    prices = data.items["price"].drop_nulls().sort().to_list()
    rows = ItemRows([""] * len(prices), [None] * len(prices), [None] * len(prices), prices, None)
    buckets = encoder.encode(rows).price_buckets
    assert (np.diff(buckets) >= 0).all()
    assert set(buckets) == set(range(2, 6))
    assert buckets.max() < encoder.sizes["price"]


def test_event_types() -> None:
    assert encode_event_types(["click", "order", "wink"]).tolist() == [3, 5, UNKNOWN]


def test_serving_builds_the_feed_that_training_saw(shop: Shop, ranker: Path, data: Dataset, tmp_path: Path) -> None:
    spec = RankerSpec.read(ranker)
    encoder = ItemEncoder.load(ranker, spec)
    vectors, _, _ = read_vectors(shop.inputs.item_embeddings)
    table = encode_catalogue(data.items, vectors, encoder)
    training_set = shop.inputs.training_set / "training_set.parquet"
    kept = {"split": "test", "protocol": "contemporaneous"}
    lengths = (spec.history_length, spec.inferred_length)
    rows = encode_rows(training_set, table.names, lengths=lengths, scratch=tmp_path, **kept)
    row = pl.read_parquet(training_set).filter(**kept).row(5, named=True)
    waited = (row["timestamp"] - row["history_as_of"]).total_seconds()
    found = encode_request(
        spec,
        candidate_ids=row["item_ids"],
        candidates=encoder.encode(item_rows(data, vectors, row["item_ids"])),
        history=encoder.encode(item_rows(data, vectors, row["history_item_ids"])),
        history_event_types=row["history_event_types"],
        history_ages_s=[age + waited for age in row["history_ages_s"]],
        inferred=encoder.encode(item_rows(data, vectors, row["inferred_item_ids"])),
        inferred_ids=row["inferred_item_ids"],
        inferred_scores=row["inferred_scores"],
        timestamp=row["timestamp"],
    )
    expected = build_feed(spec, table, rows, np.array([5]))
    assert set(found) == set(expected) == spec.input_names
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
        assert found[name].dtype == values.dtype
    before = spec.model_copy(update={"inputs": tuple(_as_before(tensor) for tensor in spec.inputs)})
    assert build_feed(before, table, rows, np.array([5]))["history_vectors"].dtype == np.float32
    assert (found["history_ids"] != PADDING).sum() == min(len(row["history_item_ids"]), spec.history_length)


def _as_before(tensor: TensorSpec) -> TensorSpec:
    """Rankers that were exported before took float32."""
    return tensor.model_copy(update={"dtype": tensor.dtype.replace("float16", "float32")})


def test_raw_statistics_survive_the_encoding(shop: Shop, data: Dataset, tmp_path: Path) -> None:
    """A wrong index in the history once trained 'healthily': hold raw and encoded statistics together."""
    vectors, _, dim = read_vectors(shop.inputs.item_embeddings)
    table = encode_catalogue(data.items, vectors, _encoder(data))
    training_set = shop.inputs.training_set / "training_set.parquet"
    rows = encode_rows(
        training_set, table.names, split="train", protocol="contemporaneous", lengths=(10, 4), scratch=tmp_path
    )
    raw = pl.read_parquet(training_set).filter(split="train", protocol="contemporaneous")
    taste = raw.select(pl.col("history_item_ids").list.eval(pl.element().str.strip_prefix("i").cast(pl.Int64) % 4))
    same_raw = taste.to_series().list.diff().list.drop_nulls().explode().drop_nulls() == 0
    # Row n + 2 of the table is item n.
    encoded = np.where(rows.history > 1, (rows.history - 2) % 4, -np.arange(1, 11) * 10)
    pairs = (rows.history[:, 1:] > 1) & (rows.history[:, :-1] > 1)
    same = (encoded[:, 1:] == encoded[:, :-1])[pairs]
    assert len(rows) == len(raw)
    assert same.mean() == pytest.approx(same_raw.mean(), abs=1e-9)
    assert dim == DIM


def test_a_ranker_without_knowledge_takes_no_vectors() -> None:
    names = {tensor.name for tensor in input_specs(WITHOUT_KNOWLEDGE, history=5, inferred=3, dim=8)}
    assert names == {
        *(
            f"{side}_{field}"
            for side in ("candidate", "history")
            for field in ("ids", "categories", "brands", "price_buckets")
        ),
        "history_ages_s",
        "history_types",
    }


def test_some_feature_must_describe_items() -> None:
    nothing = dict.fromkeys(("item_id", "category", "brand", "price", "knowledge"), False)
    with pytest.raises(ValidationError, match="switches off every description"):
        FeatureConfig(**nothing)
    with pytest.raises(ValidationError, match=r"features.inferred needs"):
        FeatureConfig(item_id=False, knowledge=False)


def test_a_folder_without_a_ranker(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a ranker artifact"):
        RankerSpec.read(tmp_path)


def test_rows_can_be_read_again_after_their_pages_were_given_back(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "rows", history=3, inferred=2, statistics=False)
    for first in (1, 3):
        writer.write(_arrays(first), np.array([2, 1]))
    rows = writer.rows()
    seen = rows.history.copy()
    rows.release()
    assert len(rows) == 4
    assert rows.offsets.tolist() == [0, 2, 3, 5, 6]
    assert rows.lengths.tolist() == [1, 2, 3, 3]
    assert rows.candidates.tolist() == [1, 2, 3, 3, 4, 5]
    assert (rows.history == seen).all()
    assert rows.statistics.shape == (6, 0)


def _arrays(first: int) -> dict[str, np.ndarray]:
    """Two lists with three candidates; the histories hold `first` behaviours and one more, three at most."""
    history = np.where(np.arange(3) < np.array([[first], [first + 1]]), 7, 0)
    inferred, candidates = np.ones((2, 2)), np.arange(3) + first
    return {
        "times_s": np.array([first, first]),
        "history": history,
        "history_ages_s": history,
        "history_types": history,
        "inferred": inferred,
        "inferred_scores": inferred,
        "candidates": candidates,
        "confidences": candidates,
        "statistics": np.empty((3, 0)),
        "clicks": candidates > first,
        "orders": candidates > first,
        "values": np.zeros(len(candidates), np.float32),
    }
