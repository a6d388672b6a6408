"""Semantic ids are unique, small and reproducible, whatever the catalogue."""

from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from models.knowledge.config import SemanticIdConfig
from models.knowledge.embedding.semantic_ids import Codebooks, SemanticIds, encode_vectors, fit_semantic_ids


def assign_ids(vectors: np.ndarray, *, num_levels: int = 3, num_codes: int = 4) -> SemanticIds:
    config = SemanticIdConfig(num_levels=num_levels, num_codes=num_codes)
    item_ids = pl.Series([f"i{number:04d}" for number in range(len(vectors))])
    return fit_semantic_ids(vectors.astype(np.float32), item_ids, config, seed=0)


@settings(max_examples=25, deadline=None)
@given(
    num_items=st.integers(1, 40),
    num_distinct=st.integers(1, 40),
    num_levels=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_ids_are_unique_for_any_catalogue(
    num_items: int, num_distinct: int, num_levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    distinct_vectors = rng.standard_normal((num_distinct, 6))
    ids = assign_ids(distinct_vectors[rng.integers(num_distinct, size=num_items)], num_levels=num_levels)
    assert ids.codes.shape == (num_items, num_levels + 1)
    assert len(np.unique(ids.codes, axis=0)) == num_items
    assert ids.codes.min() >= 0
    assert ids.codes[:, :-1].max() < 4
    assert ids.metrics["semantic_id_collisions"] == (ids.codes[:, -1] > 0).sum()


def test_more_codes_rebuild_better() -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 8))
    coarse, fine = (assign_ids(vectors, num_codes=num_codes).metrics for num_codes in (2, 32))
    assert fine["semantic_id_error"] < coarse["semantic_id_error"] < 1
    assert 0 < fine["semantic_id_code_use"] <= 1


def test_saved_codebooks_code_the_same_vectors_alike(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((50, 7)).astype(np.float32)
    ids = assign_ids(vectors)
    ids.codebooks.save_tensors(tmp_path / "codebooks.safetensors")
    codes, rebuilt_vectors = encode_vectors(
        vectors, Codebooks.load_tensors(tmp_path / "codebooks.safetensors")
    )
    assert (codes == ids.codes[:, :-1]).all()
    assert rebuilt_vectors.shape == vectors.shape


def test_ids_do_not_depend_on_the_order_of_the_rows() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    item_ids = pl.Series(list("lkjihgfedcba"))
    config = SemanticIdConfig(num_levels=2, num_codes=8)
    forward = fit_semantic_ids(vectors, item_ids, config, seed=0).codes
    backward = fit_semantic_ids(vectors[::-1], item_ids.reverse(), config, seed=0).codes[::-1]
    assert (forward[:, -1] == backward[:, -1]).all()
