"""Training sees items as learned without the user; each aspect is compared on its own."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from ranker_shop import DIM, NUM_ITEMS, Shop, tiny_config
from safetensors.numpy import save_file

from contracts.artifacts import create_artifact
from contracts.dataset import Dataset
from contracts.embedding_aspects import FOLDS_FILE, write_space_description
from contracts.errors import UserError
from contracts.shards import assign_shards
from models.ranker.config import RankerConfig
from models.ranker.inputs.ranker_spec import RankerSpec
from models.ranker.lists.encode_catalogue import (
    encode_catalogue,
    fit_encoder,
    read_fold_vectors,
    read_item_vectors,
)
from models.ranker.lists.encode_lists import assign_user_folds, encode_lists
from models.ranker.network.ranker_network import Ranker
from models.ranker.network.vector_similarities import compute_similarities
from models.ranker.training.list_batches import (
    build_catalogue_tensors,
    make_list_batch,
    plan_batches_by_fold,
    represent_lists,
)
from models.ranker.training.train_ranker import train_ranker

FIRST_ASPECT = 6
FOLDS = np.random.default_rng(3).standard_normal((2, NUM_ITEMS - 1, FIRST_ASPECT)).astype(np.float32)


@pytest.fixture
def folded_embeddings(shop: Shop, tmp_path: Path) -> Path:
    """The shop's embeddings as two aspects, with two folds of the first."""
    out = tmp_path / "folded"
    with create_artifact(out, kind="item_embeddings", inputs={"dataset": shop.inputs.dataset}) as artifact:
        shutil.copy(shop.inputs.item_embeddings / "item_embeddings.parquet", artifact.path)
        write_space_description(artifact.path, {}, {"learned": FIRST_ASPECT, "words": DIM - FIRST_ASPECT})
        save_file({"embeddings": FOLDS}, artifact.path / FOLDS_FILE)
    return out


def test_a_batch_holds_users_of_one_fold_and_a_pass_every_list() -> None:
    folds = np.array([0, 1, 2] * 30)
    batches = plan_batches_by_fold(folds, np.arange(90), 8, np.random.default_rng(0))
    assert all(len(set(folds[batch].tolist())) == 1 for batch in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(90))


def test_fold_vectors_follow_the_item_table(folded_embeddings: Path, data: Dataset) -> None:
    folds = read_fold_vectors(folded_embeddings, data.items["item_id"].reverse())
    assert folds.shape == (2, NUM_ITEMS + 2, FIRST_ASPECT)
    assert not folds[:, :3].any(), "padding, the unknown item and the item without a vector"
    np.testing.assert_array_equal(folds[:, 3:], FOLDS[:, ::-1])


def test_a_space_without_folds_has_none(shop: Shop, data: Dataset) -> None:
    assert len(read_fold_vectors(shop.inputs.item_embeddings, data.items["item_id"])) == 0


def test_folds_of_other_items_are_refused(folded_embeddings: Path, data: Dataset) -> None:
    save_file({"embeddings": FOLDS[:, 1:].copy()}, folded_embeddings / FOLDS_FILE)
    with pytest.raises(UserError, match="run embed_items again"):
        read_fold_vectors(folded_embeddings, data.items["item_id"])


def test_a_list_is_of_its_users_fold(shop: Shop) -> None:
    path = shop.inputs.training_set / "training_set.parquet"
    list_folds = assign_user_folds(path, split="train", protocol="contemporaneous", num_folds=3)
    users = pl.read_parquet(path).filter(split="train", protocol="contemporaneous")["user_id"]
    np.testing.assert_array_equal(list_folds, assign_shards(users, 3).to_numpy())
    assert set(list_folds.tolist()) == {0, 1, 2}


def test_training_looks_at_the_folds_vectors_and_scoring_does_not(
    shop: Shop, folded_embeddings: Path, data: Dataset, tmp_path: Path
) -> None:
    config = tiny_config()
    encoder = fit_encoder(data, dim=DIM)
    table = encode_catalogue(data.items, read_item_vectors(folded_embeddings)[0], encoder)
    network = Ranker(config, encoder.table_sizes, (FIRST_ASPECT, DIM - FIRST_ASPECT))
    folds = read_fold_vectors(folded_embeddings, data.items["item_id"])
    catalogue = build_catalogue_tensors(table, folds)
    training_set = shop.inputs.training_set / "training_set.parquet"
    ranking_lists = encode_lists(
        training_set,
        table.item_id_enum,
        split="train",
        protocol="contemporaneous",
        lengths=(10, 4),
        scratch=tmp_path / "rows",
    )
    chosen = np.arange(5)
    of_fold, of_all_users = (
        represent_lists(network, catalogue, make_list_batch(ranking_lists, chosen, fold))
        for fold in (1, None)
    )
    batch = make_list_batch(ranking_lists, chosen)
    fold_vectors = torch.from_numpy(folds[1])
    expected = compute_similarities(
        fold_vectors[batch.candidates_BC], fold_vectors[batch.history_BH], (FIRST_ASPECT,)
    )[:, 0]
    torch.testing.assert_close(of_fold.similarity_BSHC[:, 0], expected)
    torch.testing.assert_close(of_fold.similarity_BSHC[:, 1], of_all_users.similarity_BSHC[:, 1])
    assert not torch.allclose(of_all_users.similarity_BSHC[:, 0], expected)
    assert not torch.allclose(of_fold.candidates_BCE, of_all_users.candidates_BCE)


def test_a_ranker_of_several_aspects_is_exported_like_any_other(
    shop: Shop, folded_embeddings: Path, tmp_path: Path
) -> None:
    config: RankerConfig = tiny_config()
    inputs = (shop.inputs.training_set, shop.inputs.dataset)
    versions = []
    for name, embeddings in (("folded", folded_embeddings), ("plain", shop.inputs.item_embeddings)):
        train_ranker(*inputs, embeddings, config, checkpoints=tmp_path / f"{name}.ckpt", out=tmp_path / name)
        versions.append(RankerSpec.read(tmp_path / name))
    assert versions[0].embedding_dim == versions[1].embedding_dim == DIM, "serving sees one vector"
    assert versions[0].version != versions[1].version
