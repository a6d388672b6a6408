from datetime import UTC, datetime

import polars as pl
import pytest

from feature_repo.config import FeatureStoreConfig
from feature_repo.feast_store import open_store
from feature_repo.online.materialize_features import materialize_features
from feature_repo.online.online_view import open_view
from feature_repo.online.row_encoder import OnlineRows


def _rows(*times_us, values=(b"a", b"b", b"c")):
    return OnlineRows(["x", "y", "z"], [list(values)], list(times_us))


@pytest.mark.parametrize("table", ["inferred_behaviors", "items", "item_knowledge"])
def test_rows_are_the_bytes_that_feast_writes(shop, tmp_path, table):
    store_path = tmp_path / "store"
    materialize_features(shop.features, FeatureStoreConfig(), store=store_path)
    store = open_store(store_path)
    name = "item_knowledge_sample_space" if table == "item_knowledge" else table
    view = open_view(store, name)
    frame = _with_gaps(pl.read_parquet(shop.features / f"{table}.parquet"), view.join_key)
    store.write_to_online_store(name, df=frame.to_pandas())
    assert view.read_rows(frame[view.join_key].to_list()) == view.encode_frame(frame)


def _with_gaps(frame, key):
    """New keys: one row as it is, one of empty lists, one without any value (times are never missing)."""
    kept = frame.head(1)
    features = [name for name in frame.columns if name != key and not frame[name].dtype.is_temporal()]
    empty = kept.with_columns(pl.col(name).list.head(0) for name in features if frame[name].dtype == pl.List)
    missing = kept.with_columns(pl.lit(None, dtype=frame[name].dtype).alias(name) for name in features)
    return pl.concat([kept, empty, missing]).with_columns(pl.Series(key, ["whole", "empty", "missing"]))


def test_rows_that_are_not_stored_differ_from_empty_ones():
    rows = _rows(1, 2, 3, values=(b"", b"b", b"c"))
    assert rows.are_stored_in(_rows(None, 2, 9, values=(b"", b"b", b"d"))) == [False, True, False]


def test_digest_tells_keys_values_and_order():
    digests = {
        rows.digest_rows()
        for rows in (
            _rows(1, 2, 3),
            _rows(1, 2, 3, values=(b"a", b"b", b"d")),
            _rows(1, 2, 3).select_rows([True, True, False]),
            OnlineRows(["y", "x", "z"], [[b"b", b"a", b"c"]], [1, 2, 3]),
        )
    }
    assert len(digests) == 4
    assert _rows(1, 2, 3).digest_rows() == _rows(4, 5, 6).digest_rows(), (
        "a refreshed table of the same values is the same"
    )


def test_equal_values_are_serialized_alike_in_any_batch(shop, tmp_path):
    materialize_features(shop.features, FeatureStoreConfig(), store=tmp_path)
    view = open_view(open_store(tmp_path), "items")
    frame = pl.read_parquet(shop.features / "items.parquet")
    whole, parts = view.encode_frame(frame), [view.encode_frame(part) for part in frame.iter_slices(2)]
    for column, values in enumerate(whole.values):
        assert [value for part in parts for value in part.values[column]] == values
    assert datetime.fromtimestamp(whole.times_us[0] / 1e6, UTC) == frame["event_timestamp"][0]
