"""What a page is about: a seed item before a query, a query before a category, or nothing."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.half_vectors import VECTOR_DTYPE
from feature_repo.offline.context_vectors import ContextVectors

PAGES = {
    "list_id": ["a", "b", "c", "d", "e"],
    "query": ["red shoes", None, "red shoes", None, "  "],
    "page_category": ["Shoes", "Shoes", None, None, None],
    "seed_item_id": [None, None, "i1", None, "unknown"],
}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    text_columns = ("query", "page_category", "seed_item_id")
    pages = pl.DataFrame(PAGES, schema_overrides=dict.fromkeys(text_columns, pl.String))
    pages.write_parquet(tmp_path / "lists.parquet")
    seed_vector = np.full(2, 7, VECTOR_DTYPE).tobytes()
    items = pl.DataFrame({"item_id": ["i1", "i2"], "item_vector": [seed_vector, b"\0" * 4]})
    items.write_parquet(tmp_path / "item_knowledge.parquet")
    return tmp_path / "lists.parquet", tmp_path


def _embed(texts: list[str]) -> np.ndarray:
    assert texts == ["Shoes", "red shoes"], "each text once, in one order"
    return np.array([[1, 0], [0, 1]], np.float32)


def test_each_page_gets_the_vector_of_what_says_most(folders: tuple[Path, Path]) -> None:
    lists, features = folders
    vectors = ContextVectors.read_for_lists(lists, features, _embed)
    pages = vectors.add_to(pl.read_parquet(lists))
    assert pages["list_id"].to_list() == PAGES["list_id"]
    told = [
        None if blob is None else np.frombuffer(blob, VECTOR_DTYPE).tolist()
        for blob in pages["context_vector"]
    ]
    assert told == [[0, 1], [1, 0], [7, 7], None, None]
    assert set(pages.columns) == {*PAGES, "context_vector"}


def test_without_an_encoder_only_items_have_a_vector(folders: tuple[Path, Path]) -> None:
    lists, features = folders
    vectors = ContextVectors.read_for_lists(lists, features, None)
    pages = vectors.add_to(pl.read_parquet(lists))
    assert pages["context_vector"].is_null().to_list() == [True, True, False, True, True]
