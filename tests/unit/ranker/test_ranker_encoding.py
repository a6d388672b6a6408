import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from ranker_shop import DIM, Shop, make_raw_items

from contracts.dataset import Dataset, select_events_before
from contracts.errors import UserError
from models.ranker.config import WITHOUT_KNOWLEDGE, RankerFeatures
from models.ranker.inputs.graph_feed import build_list_feed, encode_request, gather_lists
from models.ranker.inputs.input_table import INPUT_TABLE
from models.ranker.inputs.item_encoder import (
    PADDING,
    UNKNOWN,
    EncodedItems,
    ItemEncoder,
    RawItems,
    encode_event_types,
)
from models.ranker.inputs.ranker_spec import SPEC_FILE, RankerSpec, TensorSpec, list_graph_inputs
from models.ranker.lists.encode_catalogue import encode_catalogue, read_item_vectors
from models.ranker.lists.encode_lists import encode_lists
from models.ranker.lists.mapped_lists import ListWriter, RankingLists


def _fit_small_encoder(data: Dataset) -> ItemEncoder:
    training_ids = select_events_before(data.events, data.split.train_end)["item_id"].unique()[:30]
    return ItemEncoder.fit_vocabularies(data.items, training_ids=training_ids, num_price_buckets=4, dim=DIM)


def test_what_training_did_not_see_is_unknown(data: Dataset) -> None:
    encoder = _fit_small_encoder(data)
    training_item = next(iter(encoder.vocabularies["item"]))
    raw_items = RawItems([training_item, "new"], ["all > c1", None], ["b1", "no such"], [12.0, None], None)
    encoded = encoder.encode_items(raw_items)
    assert encoded.ids[0] > UNKNOWN
    assert encoded.ids[1] == encoded.categories[1] == encoded.brands[1] == encoded.price_buckets[1] == UNKNOWN
    assert not encoded.vectors.any()


def test_price_buckets_are_quantiles(data: Dataset) -> None:
    encoder = _fit_small_encoder(data)
    prices = data.items["price"].drop_nulls().sort().to_list()
    raw_items = RawItems([""] * len(prices), [None] * len(prices), [None] * len(prices), prices, None)
    buckets = encoder.encode_items(raw_items).price_buckets
    assert (np.diff(buckets) >= 0).all()
    assert set(buckets) == set(range(2, 6))
    assert buckets.max() < encoder.table_sizes["price"]


def test_event_types() -> None:
    assert encode_event_types(["click", "order", "wink"]).tolist() == [3, 5, UNKNOWN]


def test_serving_builds_the_feed_that_training_saw(
    shop: Shop, ranker: Path, data: Dataset, tmp_path: Path
) -> None:
    spec = RankerSpec.read(ranker)
    encoder = ItemEncoder.load_artifact(ranker, spec)
    vectors, _, _ = read_item_vectors(shop.inputs.item_embeddings)
    table = encode_catalogue(data.items, vectors, encoder)
    training_set = shop.inputs.training_set / "training_set.parquet"
    list_kind = {"split": "test", "protocol": "contemporaneous"}
    lengths = (spec.history_length, spec.inferred_length)
    ranking_lists = encode_lists(
        training_set, table.item_id_enum, lengths=lengths, scratch=tmp_path, **list_kind
    )
    training_row = pl.read_parquet(training_set).filter(**list_kind).row(5, named=True)
    since_newest_s = (training_row["timestamp"] - training_row["history_as_of"]).total_seconds()
    request_feed = encode_request(
        spec,
        candidate_ids=training_row["item_ids"],
        candidates=encoder.encode_items(make_raw_items(data, vectors, training_row["item_ids"])),
        history=encoder.encode_items(make_raw_items(data, vectors, training_row["history_item_ids"])),
        history_event_types=training_row["history_event_types"],
        history_ages_s=[age + since_newest_s for age in training_row["history_ages_s"]],
        inferred=encoder.encode_items(make_raw_items(data, vectors, training_row["inferred_item_ids"])),
        inferred_ids=training_row["inferred_item_ids"],
        inferred_scores=training_row["inferred_scores"],
        timestamp=training_row["timestamp"],
    )
    gathered = gather_lists(
        ranking_lists, np.array([5]), history=spec.history_length, inferred=spec.inferred_length
    )
    list_feed = build_list_feed(spec, table, gathered)
    assert set(request_feed) == set(list_feed) == spec.input_names
    for name, values in list_feed.items():
        np.testing.assert_array_equal(request_feed[name], values, err_msg=name)
        assert request_feed[name].dtype == values.dtype
    old_spec = spec.model_copy(update={"inputs": tuple(_widen_to_float32(tensor) for tensor in spec.inputs)})
    assert build_list_feed(old_spec, table, gathered)["history_vectors"].dtype == np.float32
    assert (request_feed["history_ids"] != PADDING).sum() == min(
        len(training_row["history_item_ids"]), spec.history_length
    )


def _widen_to_float32(tensor: TensorSpec) -> TensorSpec:
    """Rankers that were exported before took float32."""
    return tensor.model_copy(update={"dtype": tensor.dtype.replace("float16", "float32")})


def test_raw_statistics_survive_the_encoding(shop: Shop, data: Dataset, tmp_path: Path) -> None:
    """A wrong index in the history once trained 'healthily': hold raw and encoded statistics together."""
    vectors, _, dim = read_item_vectors(shop.inputs.item_embeddings)
    table = encode_catalogue(data.items, vectors, _fit_small_encoder(data))
    training_set = shop.inputs.training_set / "training_set.parquet"
    ranking_lists = encode_lists(
        training_set,
        table.item_id_enum,
        split="train",
        protocol="contemporaneous",
        lengths=(10, 4),
        scratch=tmp_path,
    )
    raw_lists = pl.read_parquet(training_set).filter(split="train", protocol="contemporaneous")
    history_tastes = raw_lists.select(
        pl.col("history_item_ids").list.eval(pl.element().str.strip_prefix("i").cast(pl.Int64) % 4)
    )
    same_raw = history_tastes.to_series().list.diff().list.drop_nulls().explode().drop_nulls() == 0
    # Row n + 2 of the table is item n.
    encoded_tastes = np.where(
        ranking_lists.history > 1, (ranking_lists.history - 2) % 4, -np.arange(1, 11) * 10
    )
    is_neighbor_pair = (ranking_lists.history[:, 1:] > 1) & (ranking_lists.history[:, :-1] > 1)
    is_same_taste = (encoded_tastes[:, 1:] == encoded_tastes[:, :-1])[is_neighbor_pair]
    assert len(ranking_lists) == len(raw_lists)
    assert is_same_taste.mean() == pytest.approx(same_raw.mean(), abs=1e-9)
    assert dim == DIM


def test_every_input_is_filled_by_a_list_or_an_item_and_turned_on_by_a_switch() -> None:
    for row in INPUT_TABLE:
        assert row.side in {"candidate", "history", "inferred", "context"}
        if row.column is None:
            assert row.field in EncodedItems._fields
        else:
            assert row.column in RankingLists.__dataclass_fields__
        assert all(hasattr(RankerFeatures(), switch) for switch in row.switches)


def test_a_spec_of_before_is_still_read(ranker: Path, tmp_path: Path) -> None:
    spec = json.loads((ranker / SPEC_FILE).read_text())
    spec["features"] |= {"semantic_id": False, "price_relation": False, "confidence": True}
    (tmp_path / SPEC_FILE).write_text(json.dumps(spec))
    assert RankerSpec.read(tmp_path) == RankerSpec.read(ranker)


def test_a_ranker_without_knowledge_takes_no_vectors() -> None:
    names = {tensor.name for tensor in list_graph_inputs(WITHOUT_KNOWLEDGE, history=5, inferred=3, dim=8)}
    assert names == {
        *(
            f"{side}_{field}"
            for side in ("candidate", "history")
            for field in ("ids", "categories", "brands", "price_buckets")
        ),
        "history_ages_s",
        "history_types",
        "context_scene",
    }


def test_some_feature_must_describe_items() -> None:
    nothing = dict.fromkeys(("item_id", "category", "brand", "price", "knowledge"), False)
    with pytest.raises(ValidationError, match="switches off every description"):
        RankerFeatures(**nothing)
    with pytest.raises(ValidationError, match=r"features.inferred needs"):
        RankerFeatures(item_id=False, knowledge=False)


def test_a_folder_without_a_ranker(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a ranker artifact"):
        RankerSpec.read(tmp_path)


def test_rows_can_be_read_again_after_their_pages_were_given_back(tmp_path: Path) -> None:
    writer = ListWriter(tmp_path / "rows", history=3, inferred=2, statistics=False, vector_length=0)
    for first in (1, 3):
        writer.write_lists(_make_list_arrays(first), np.array([2, 1]))
    ranking_lists = writer.open_lists()
    first_reading = ranking_lists.history.copy()
    ranking_lists.release_pages()
    assert len(ranking_lists) == 4
    assert ranking_lists.offsets.tolist() == [0, 2, 3, 5, 6]
    assert ranking_lists.lengths.tolist() == [1, 2, 3, 3]
    assert ranking_lists.candidates.tolist() == [1, 2, 3, 3, 4, 5]
    assert (ranking_lists.history == first_reading).all()
    assert ranking_lists.statistics.shape == (6, 0)


def _make_list_arrays(first: int) -> dict[str, np.ndarray]:
    """Two lists with three candidates; the histories hold `first` behaviors and one more, three at most."""
    history = np.where(np.arange(3) < np.array([[first], [first + 1]]), 7, 0)
    inferred, candidates = np.ones((2, 2)), np.arange(3) + first
    return {
        "times_s": np.array([first, first]),
        "scenes": np.array([1, 2]),
        "context_vectors": np.empty((2, 0)),
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
