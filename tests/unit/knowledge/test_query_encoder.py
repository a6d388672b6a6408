"""Queries are placed while serving as they were for training, and without torch."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.artifacts import create_artifact, write_json, write_table
from contracts.embedding_aspects import QUERY_ENCODER_FOLDER
from contracts.errors import UserError
from contracts.tables import EVENTS, ITEMS, KNOWLEDGE
from models.knowledge.config import EmbeddingConfig, SemanticIdConfig
from models.knowledge.embedding.embed_items import embed_items, embed_new_items
from models.knowledge.embedding.embed_queries import embed_queries, embed_titles
from models.knowledge.embedding.exact_words import WORD_PATTERN, WordVectorizer
from models.knowledge.embedding.query_encoder import QueryEncoder, WordDirections

CONFIG = EmbeddingConfig(
    dimension=16, semantic_ids=SemanticIdConfig(num_levels=2, num_codes=4), precision="float32"
)
TEXTS = [
    "tent",
    "usb-c cable 2 m",
    "Cables > USB Cables",
    "[PAD] [MASK] monitor",
    "日本語 ケーブル",
    "earbuds " * 80,
    "zzqx",
]
TITLES = ["usb-c cable 2 m", "usb-c cable 3 m", "wired earbuds", "earbuds for running", "tent for two"]


def _write_inputs(root: Path) -> tuple[Path, Path]:
    frame = pl.DataFrame(
        {
            "item_id": [str(number) for number in range(20)],
            "title": [f"{TITLES[number % 5]} {number % 3}" for number in range(20)],
            "brand": ["Bright" if number % 2 else None for number in range(20)],
            "category": ["Cables > USB Cables" if number % 5 < 2 else "Sports" for number in range(20)],
        }
    )
    moment = "2026-01-01T00:00:00+00:00"
    event = {"user_id": "u", "timestamp": moment, "item_id": "0", "event_type": "click"}
    with create_artifact(root / "dataset", kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, frame)
        events = pl.DataFrame([event]).with_columns(pl.col("timestamp").str.to_datetime(time_zone="UTC"))
        write_table(artifact.path / "events.parquet", EVENTS, events)
        split = dict.fromkeys(("train_end", "validation_end", "cutoff"), moment)
        write_json(artifact.path / "split.json", split)
    with create_artifact(root / "knowledge", kind="knowledge", inputs={}) as artifact:
        write_table(artifact.path / "knowledge.parquet", KNOWLEDGE, KNOWLEDGE.create_empty())
    return root / "dataset", root / "knowledge"


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A space with knowledge and so with a student, one without, and the first one's refresh."""
    root = tmp_path_factory.mktemp("spaces")
    inputs = _write_inputs(root)
    for name, knowledge in {"student": True, "text": False}.items():
        config = CONFIG.model_copy(update={"knowledge": knowledge})
        embed_items(*inputs, config, out=root / name, cache=root / "cache")
    embed_new_items(*inputs, CONFIG, space=root / "student", out=root / "refreshed", cache=root / "cache")
    return {name: root / name for name in ("student", "text", "refreshed")}


@pytest.mark.parametrize("name", ["student", "text", "refreshed"])
def test_the_graph_places_texts_where_the_space_does(spaces: dict[str, Path], name: str) -> None:
    vectors, expected = embed_queries(spaces[name], TEXTS), embed_titles(spaces[name], TEXTS)
    assert vectors.shape == expected.shape
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((vectors * expected).sum(axis=1) / norms).min() > 1 - 1e-3


def test_a_text_alone_has_the_vector_that_it_has_among_others(spaces: dict[str, Path]) -> None:
    encoder = QueryEncoder(spaces["student"] / QUERY_ENCODER_FOLDER, threads=1)
    together = encoder.encode_texts([*TEXTS, "  "])
    alone = np.concatenate([encoder.encode_texts([text]) for text in [*TEXTS, "  "]])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert not together[-1].any(), "a blank text says nothing"
    assert encoder.encode_texts([]).shape == (0, encoder.dim)


def test_the_encoder_knows_its_space(spaces: dict[str, Path]) -> None:
    description = json.loads((spaces["refreshed"] / "space.json").read_text())
    assert QueryEncoder(spaces["refreshed"] / QUERY_ENCODER_FOLDER).space == description["space"]
    with pytest.raises(UserError, match="holds no query encoder"):
        QueryEncoder(spaces["text"])


def test_an_artifact_without_an_encoder_uses_its_maps(spaces: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(spaces["text"], tmp_path / "former")
    shutil.rmtree(tmp_path / "former" / QUERY_ENCODER_FOLDER)
    vectors = embed_queries(tmp_path / "former", TEXTS)
    np.testing.assert_allclose(vectors, embed_queries(spaces["text"], TEXTS), atol=1e-5)


def test_no_torch_is_loaded() -> None:
    code = (
        "import sys, models.knowledge.embedding.query_encoder; "
        "assert not {'torch', 'sklearn', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


WORDS = ["usb-c", "usb", "cable", "9.7", "Straße", "c", "İx"]


@pytest.mark.parametrize("longest_run", [1, 2])
@settings(max_examples=50, deadline=None)
@given(words=st.lists(st.sampled_from([*WORDS, "unknown", ",", "USB-C"]), max_size=8))
def test_words_are_found_as_the_vectorizer_finds_them(longest_run: int, words: list[str]) -> None:
    catalogue = [" ".join(WORDS[start : start + 3]) for start in range(5)] * 2
    catalogue += ["other things"] * 40
    vectorizer = WordVectorizer.fit_texts(catalogue, longest_run=longest_run, max_axes=4, seed=0)
    directions = WordDirections(
        "words",
        longest_run,
        re.compile(WORD_PATTERN),
        {word: row for row, word in enumerate(vectorizer.vocabulary)},
        vectorizer.weights[:, None] * vectorizer.axes,
    )
    texts = [" ".join(words), "nothing of it"]
    np.testing.assert_allclose(directions.place_texts(texts), vectorizer.vectorize_texts(texts), atol=2e-5)
