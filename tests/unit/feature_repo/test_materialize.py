import asyncio
import json
import shutil
from importlib.util import find_spec

import polars as pl
import pytest
from price_codes import by_price, prices
from pydantic import ValidationError

from contracts.embedding_aspects import QUERY_ENCODER_FOLDER
from contracts.errors import UserError
from feature_repo.config import FeatureStoreConfig
from feature_repo.feast_store import open_store
from feature_repo.feature_services import register_service
from feature_repo.feature_views import BASE_SERVICE
from feature_repo.offline.build_features import build_features
from feature_repo.online.feature_reader import FeatureReader
from feature_repo.online.materialize_features import MATERIALIZED_FILE, materialize_features
from feature_repo.online.online_view import FeastView
from feature_repo.online.query_encoders import locate_query_encoder

CONFIG = FeatureStoreConfig(batch_rows=2)


@pytest.fixture
def features(shop, tmp_path):
    """The shop's features, to be changed."""
    return shutil.copytree(shop.features, tmp_path / "features")


def _change(path, **columns):
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


def _prices(store):
    reader = FeatureReader(store, cached_items=10)
    wanted = [f"item_{n}" for n in range(6)]
    return prices(asyncio.run(reader.read_items(wanted, service=BASE_SERVICE, dim=3, encode=by_price)))


def _digests(store):
    return json.loads((store / MATERIALIZED_FILE).read_text())["digests"]


def test_only_changed_rows_are_written(features, tmp_path):
    store = tmp_path / "store"
    first = materialize_features(features, CONFIG, store=store)
    assert (first["items_written"], first["items_unchanged"]) == (6, 0)
    before = _digests(store)
    price = pl.when(pl.col("item_id") == "item_4").then(7.5).otherwise("item_price")
    _change(features / "items.parquet", item_price=price)
    again = materialize_features(features, CONFIG, store=store)
    assert (again["items_written"], again["items_unchanged"]) == (1, 5)
    assert _prices(store)[4] == 7.5
    assert {name for name, digest in _digests(store).items() if digest != before[name]} == {"items"}


def test_what_was_lost_or_spoilt_in_the_store_is_mended(features, tmp_path):
    store = tmp_path / "store"
    materialize_features(features, CONFIG, store=store)
    spoilt = pl.read_parquet(features / "items.parquet").head(2).with_columns(item_price=pl.lit(99.0))
    open_store(store).write_to_online_store("items", df=spoilt.to_pandas())
    assert _prices(store)[:3] == [99.0, 99.0, 20.0]
    assert materialize_features(features, CONFIG, store=store)["items_written"] == 2
    assert _prices(store)[:3] == [0.0, 10.0, 20.0]


def test_a_killed_run_goes_on_where_it_was(features, tmp_path, monkeypatch):
    store = tmp_path / "store"
    original, calls = FeastView.write_rows, []

    def dies(view, rows):
        calls.append(view.name)
        if calls.count("items") == 2:
            raise KeyboardInterrupt
        original(view, rows)

    monkeypatch.setattr(FeastView, "write_rows", dies)
    with pytest.raises(KeyboardInterrupt):
        materialize_features(features, CONFIG, store=store)
    assert not (store / MATERIALIZED_FILE).exists(), "readers keep what they have"
    monkeypatch.setattr(FeastView, "write_rows", original)
    again = materialize_features(features, CONFIG, store=store)
    assert (again["user_behaviors_unchanged"], again["items_unchanged"], again["items_written"]) == (3, 2, 4)


def test_a_row_that_did_not_arrive_is_an_error(features, tmp_path, monkeypatch):
    original = FeastView.write_rows
    monkeypatch.setattr(
        FeastView,
        "write_rows",
        lambda view, rows: original(view, rows.select_rows([False, True][: len(rows)])),
    )
    with pytest.raises(RuntimeError, match=r"1 of 1 rows of 'user_behaviors' are not in the online store"):
        materialize_features(features, CONFIG, store=tmp_path / "store")


def test_old_and_new_space_lie_side_by_side(shop, features, tmp_path):
    store = tmp_path / "store"
    materialize_features(features, CONFIG, store=store)
    register_service(store, "ranker_old", space="sample-space", description="test")
    reader = FeatureReader(store, cached_items=10)
    wanted = ["item_3", "item_5"]
    old = asyncio.run(reader.read_items(wanted, service="ranker_old", dim=3, encode=by_price))
    inputs = [shutil.copytree(path, tmp_path / path.name) for path in shop[:3]]
    turned = pl.col("embedding").list.reverse()
    _change(inputs[1] / "item_embeddings.parquet", space=pl.lit("new-space"), embedding=turned)
    _change(inputs[2] / "inferred_behaviors.parquet", space=pl.lit("new-space"))
    build_features(*inputs, CONFIG, out=tmp_path / "new")
    materialize_features(tmp_path / "new", CONFIG, store=store)
    register_service(store, "ranker_new", space="new-space", description="test")
    for service, vectors in {"ranker_old": old.vectors, "ranker_new": old.vectors[:, ::-1]}.items():
        found = asyncio.run(reader.read_items(wanted, service=service, dim=3, encode=by_price))
        assert found.vectors.tolist() == vectors.tolist()


def test_the_query_encoder_of_a_space_comes_with_its_vectors(shop, tmp_path):
    embeddings = shutil.copytree(shop.item_embeddings, tmp_path / "embeddings")
    encoder = embeddings / QUERY_ENCODER_FOLDER
    encoder.mkdir()
    for content in ("first", "first", "mended"):
        (encoder / "graph").write_text(content)
        build_features(
            shop.dataset, embeddings, shop.inferred_behaviors, CONFIG, out=tmp_path / "with_encoder"
        )
        materialize_features(tmp_path / "with_encoder", CONFIG, store=tmp_path / "store")
        installed = locate_query_encoder(tmp_path / "store", "sample-space")
        assert (installed / "graph").read_text() == content
    # Features without one leave that of the space where it is.
    materialize_features(shop.features, CONFIG, store=tmp_path / "store")
    assert (installed / "graph").is_file()
    materialize_features(shop.features, CONFIG, store=tmp_path / "other")
    assert not locate_query_encoder(tmp_path / "other", "sample-space").exists()


def test_sqlite_takes_one_writer():
    with pytest.raises(ValidationError, match="SQLite takes one writer"):
        FeatureStoreConfig(processes=2)
    with pytest.raises(ValidationError, match="engine = ray: SQLite takes one writer"):
        FeatureStoreConfig(engine="ray")


def test_without_ray_its_engine_says_what_to_do(features, tmp_path):
    if find_spec("ray"):
        pytest.skip("Ray is installed here")
    config = FeatureStoreConfig(engine="ray", online_store="redis", redis_connection="127.0.0.1:1")
    with pytest.raises(UserError, match="install the extra `ray`"):
        materialize_features(features, config, store=tmp_path / "store")
