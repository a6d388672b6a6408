"""Semantic ids are unique, small and reproducible, whatever the catalogue."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from models.knowledge.config import SemanticIdConfig
from models.knowledge.semantic_ids import SemanticIds, encode, quantise


def ids_of(vectors: np.ndarray, *, method: str = "product", levels: int = 3, codes: int = 4) -> SemanticIds:
    config = SemanticIdConfig.model_validate({"method": method, "num_levels": levels, "num_codes": codes})
    order = np.array([f"i{number:04d}" for number in range(len(vectors))])
    return quantise(vectors.astype(np.float32), config, seed=0, order=order)


@settings(max_examples=25, deadline=None)
@given(
    num_items=st.integers(1, 40),
    num_distinct=st.integers(1, 40),
    method=st.sampled_from(["product", "residual"]),
    levels=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_ids_are_unique_for_any_catalogue(
    num_items: int, num_distinct: int, method: str, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.standard_normal((num_distinct, 6))
    ids = ids_of(pool[rng.integers(num_distinct, size=num_items)], method=method, levels=levels)
    assert ids.codes.shape == (num_items, levels + 1)
    assert len(np.unique(ids.codes, axis=0)) == num_items
    assert ids.codes.min() >= 0
    assert ids.codes[:, :-1].max() < 4
    assert ids.metrics["semantic_id_collisions"] == (ids.codes[:, -1] > 0).sum()


@pytest.mark.parametrize("method", ["product", "residual"])
def test_more_codes_rebuild_better(method: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 8))
    coarse, fine = (ids_of(vectors, method=method, codes=codes).metrics for codes in (2, 32))
    assert fine["semantic_id_error"] < coarse["semantic_id_error"] < 1
    assert 0 < fine["semantic_id_code_use"] <= 1


@pytest.mark.parametrize("method", ["product", "residual"])
def test_codebooks_code_the_same_vectors_alike(tmp_path: Path, method: str) -> None:
    vectors = np.random.default_rng(1).standard_normal((50, 7)).astype(np.float32)
    ids = ids_of(vectors, method=method)
    codes, rebuilt = encode(vectors, ids.codebooks)
    assert (codes == ids.codes[:, :-1]).all()
    assert rebuilt.shape == vectors.shape
    ids.codebooks.save(tmp_path / "codebooks.safetensors")
    assert load_file(tmp_path / "codebooks.safetensors")["centroids_2"].shape[0] == 4


def test_ids_do_not_depend_on_the_order_of_the_rows() -> None:
    vectors = np.repeat(np.eye(4), 3, axis=0)
    names = np.array(list("lkjihgfedcba"))
    config = SemanticIdConfig(num_levels=2, num_codes=8)
    forward = quantise(vectors.astype(np.float32), config, seed=0, order=names).codes
    backward = quantise(vectors[::-1].astype(np.float32), config, seed=0, order=names[::-1]).codes[::-1]
    assert (forward[:, -1] == backward[:, -1]).all()


def test_slices_share_the_variance() -> None:
    scale = 1 / np.arange(1, 13)
    vectors = np.random.default_rng(2).standard_normal((400, 12)) * scale
    books = ids_of(vectors, levels=4).codebooks
    rotated = vectors @ books.rotation
    assert sorted(np.concatenate(books.slices)) == list(range(12))
    assert {len(dims) for dims in books.slices} == {3}
    shares = [rotated[:, dims].var(axis=0).sum() for dims in books.slices]
    assert max(shares) < sum(shares) * 0.7
