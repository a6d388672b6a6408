"""The step `embed_items`: from catalogue and knowledge to item vectors and semantic ids.

An item's vector is its raw text's vector and its knowledge's vector, combined as `space.py` says. The latter is the
mean of its claims' vectors, weighted by confidence: claims repeat from item to item, so each is encoded once.
Nothing here reads the log but the time of its first event.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.artifacts import Artifact, new_artifact, read_lineage, read_table, write_json, write_table
from contracts.dataset import Split
from contracts.digests import digest_file, digest_value
from contracts.errors import UserError
from contracts.schema import UTC_TIME
from contracts.tables import FACETS, ITEM_EMBEDDINGS, ITEMS, KNOWLEDGE
from models.knowledge.config import EmbeddingConfig
from models.knowledge.encoder import Encoder, Floats
from models.knowledge.semantic_ids import Codebooks, SemanticIds, extend, quantise
from models.knowledge.space import Space, fit_space, project, unit

CODEBOOKS_FILE = "codebooks.safetensors"
PROJECTION_FILE = "projection.safetensors"
SPACE_FILE = "space.json"


def embed_items(dataset: Path, knowledge: Path, config: EmbeddingConfig, *, out: Path) -> None:
    """Embeds every item of a dataset artifact.

    Args:
        dataset: The dataset artifact; of its log only the first time is read.
        knowledge: The knowledge artifact of the same catalogue.
        config: Encoder, use of the knowledge, dimension and semantic ids.
        out: The artifact folder: item_embeddings.parquet, space.json, projection.safetensors,
            codebooks.safetensors.

    Raises:
        UserError: an input is not usable or the encoder is not there.
    """
    inputs = {"dataset": dataset, "knowledge": knowledge}
    with new_artifact(out, kind="item_embeddings", inputs=inputs, config=config) as artifact:
        texts = _encode(dataset, knowledge, config)
        fitted = fit_space(texts.raw, texts.known, config)
        vectors = project(texts.raw, texts.known, fitted, knowledge_weight=config.knowledge_weight)
        order = texts.items["item_id"].to_numpy().astype(str)
        ids = quantise(vectors, config.semantic_ids, seed=config.seed, order=order)
        fitted.save(artifact.path / PROJECTION_FILE)
        ids.codebooks.save(artifact.path / CODEBOOKS_FILE)
        space = _describe_space(artifact, config, texts.encoder)
        _write(artifact, dataset, texts.items, vectors, ids, space)


def embed_new_items(dataset: Path, knowledge: Path, config: EmbeddingConfig, *, space: Path, out: Path) -> None:
    """Embeds a changed catalogue in a space that models already use: nothing is fitted.

    Items of that space keep their semantic ids; new ones get the codes of the old codebooks.

    Args:
        dataset: The dataset artifact with the changed catalogue.
        knowledge: The knowledge artifact of that catalogue.
        config: Must be the configuration that the space was made with.
        space: The item embeddings artifact whose space is kept.
        out: The artifact folder, as of `embed_items`.

    Raises:
        UserError: an input is not usable, or encoder or configuration are not those of the space.
    """
    inputs = {"dataset": dataset, "knowledge": knowledge, "space": space}
    with new_artifact(out, kind="item_embeddings", inputs=inputs, config=config) as artifact:
        texts = _encode(dataset, knowledge, config)
        name = _require_same_space(space, config, texts.encoder)
        for file in (PROJECTION_FILE, CODEBOOKS_FILE, SPACE_FILE):
            shutil.copyfile(space / file, artifact.path / file)
        fitted = Space.load(space / PROJECTION_FILE)
        vectors = project(texts.raw, texts.known, fitted, knowledge_weight=config.knowledge_weight)
        known = read_table(space / "item_embeddings.parquet", ITEM_EMBEDDINGS).select("item_id", "semantic_id")
        ids = extend(vectors, Codebooks.load(space / CODEBOOKS_FILE), texts.items["item_id"], known)
        artifact.labels["space"] = name
        artifact.metrics["new_items"] = float((~texts.items["item_id"].is_in(known["item_id"].implode())).sum())
        _write(artifact, dataset, texts.items, vectors, ids, name)


class _Texts(NamedTuple):
    """A catalogue as the encoder sees it."""

    items: pl.DataFrame
    encoder: Encoder
    raw: Floats
    """[N, D] vectors of the raw texts."""
    known: Floats
    """[N, D] vectors of the knowledge; zero where nothing is known."""


def _encode(dataset: Path, knowledge: Path, config: EmbeddingConfig) -> _Texts:
    items = read_table(dataset / "items.parquet", ITEMS)
    claims = read_table(knowledge / "knowledge.parquet", KNOWLEDGE)
    encoder = Encoder(config)
    raw = encoder.encode(item_texts(items))
    known = _knowledge_vectors(items, claims, encoder) if config.knowledge else np.zeros_like(raw)
    return _Texts(items, encoder, raw, known)


def _write(
    artifact: Artifact, dataset: Path, items: pl.DataFrame, vectors: Floats, ids: SemanticIds, space: str
) -> None:
    embeddings = items.select("item_id", event_timestamp=_known_from(dataset)).with_columns(
        embedding=_rows(vectors), semantic_id=_rows(ids.codes), space=pl.lit(space)
    )
    write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, embeddings)
    artifact.metrics.update(ids.metrics)
    artifact.metrics["num_items"] = float(items.height)


def _require_same_space(space: Path, config: EmbeddingConfig, encoder: Encoder) -> str:
    """Name of the space, once encoder and configuration are found to be its own."""
    described = json.loads((space / SPACE_FILE).read_text(encoding="utf-8"))
    made_with = read_lineage(space).config
    if described["encoder_digest"] != encoder.digest or made_with != config.model_dump(mode="json"):
        raise UserError(
            f"space '{described['space']}' was made with another encoder or embedding configuration than "
            f"'{config.encoder}' as configured now; restore that section, or run train_and_deploy for a new space"
        )
    return str(described["space"])


def item_texts(items: pl.DataFrame) -> list[str]:
    """What the encoder reads of each item: title, brand, the end of the category path, description."""
    parts = (pl.col("title"), pl.col("brand"), pl.col("category").str.split(">").list.last().str.strip_chars())
    text = pl.concat_str([*parts, pl.col("description")], separator=". ", ignore_nulls=True)
    return items.select(text.str.slice(0, _MAX_TEXT_CHARS)).to_series().to_list()


_MAX_TEXT_CHARS = 4000
"""Far more than any encoder's window; keeps huge descriptions out of memory."""


def _knowledge_vectors(items: pl.DataFrame, knowledge: pl.DataFrame, encoder: Encoder) -> Floats:
    """[N, D] mean of each item's claim vectors, weighted by confidence, of unit norm; zero where nothing is known."""
    rows = items.select("item_id").with_row_index("row").join(knowledge, on="item_id", how="inner")
    facets = [rows.select("row", claim=pl.col(facet)).explode("claim").drop_nulls() for facet in FACETS]
    claims = pl.concat(facets).unnest("claim")
    texts = claims["text"].unique(maintain_order=True)
    vectors = encoder.encode(texts.to_list())
    text_rows = claims.join(texts.to_frame().with_row_index("text_row"), on="text", how="left", maintain_order="left")
    weighted = vectors[text_rows["text_row"].to_numpy()] * text_rows["confidence"].to_numpy()[:, None]
    total = np.zeros((items.height, vectors.shape[1]), dtype=np.float32)
    np.add.at(total, text_rows["row"].to_numpy(), weighted)
    return unit(total)


def _describe_space(artifact: Artifact, config: EmbeddingConfig, encoder: Encoder) -> str:
    """Names the space by what makes its vectors and codes comparable: encoder, projection, codebooks and settings."""
    fitted = [digest_file(artifact.path / name) for name in (PROJECTION_FILE, CODEBOOKS_FILE)]
    digest = digest_value([encoder.digest, config.model_dump(mode="json"), *fitted])
    space = f"{encoder.name}-{'knowledge' if config.knowledge else 'text'}-{digest[:8]}"
    description = {"space": space, "encoder": encoder.name, "encoder_digest": encoder.digest}
    write_json(artifact.path / SPACE_FILE, {**description, "dimension": config.dimension})
    artifact.labels["space"] = space
    return space


def _known_from(dataset: Path) -> pl.Expr:
    """An item's text is known since it is on offer; where that is not said, since the log began."""
    first = pl.scan_parquet(dataset / "events.parquet").select(pl.col("timestamp").min()).collect().item()
    if first is None:
        first = Split.model_validate_json((dataset / "split.json").read_text(encoding="utf-8")).train_end
    return pl.coalesce("available_at", pl.lit(first, dtype=UTC_TIME))


def _rows(matrix: Floats | np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> pl.Series:
    return pl.Series(matrix).arr.to_list()
