"""The step `embed_items`: from catalogue, knowledge and log to item vectors and semantic ids.

An item is seen in several views (`item_views.py`) and in its words (`exact_words.py`). The space maps them to
the aspects of one vector (`embedding_space.py`). Of the log only what lies before the training end is read,
and the time of its first event.

A space gets its name, which every later step compares, in `embedding_space.name_embedding_space`.
"""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from contracts.array_types import FloatArray
from contracts.artifacts import Artifact, create_artifact, read_lineage, read_table, write_table
from contracts.complement_vectors import ComplementVectors, write_complements
from contracts.dataset import read_split, scan_events
from contracts.embedding_aspects import (
    FOLDS_FILE,
    QUERY_ENCODER_FOLDER,
    SPACE_FILE,
    write_space_description,
)
from contracts.errors import UserError
from contracts.progress import report_summary
from contracts.table_schema import UTC_TIME
from contracts.tables import ITEM_EMBEDDINGS, ITEMS, KNOWLEDGE
from models.knowledge.config import EmbeddingConfig
from models.knowledge.embedding.coengagement import read_coengagement
from models.knowledge.embedding.embedding_space import EmbeddingSpace, fit_space, name_embedding_space
from models.knowledge.embedding.exact_words import WordTexts, collect_word_texts
from models.knowledge.embedding.item_views import ItemViews, encode_complements, encode_views
from models.knowledge.embedding.query_encoder_export import export_query_encoder
from models.knowledge.embedding.semantic_ids import (
    Codebooks,
    SemanticIds,
    extend_semantic_ids,
    fit_semantic_ids,
)
from models.knowledge.embedding.text_encoder import SentenceEncoder, TextEncoder, describe_unknown_scripts
from models.knowledge.embedding.text_vector_cache import open_cached_encoder

_EMBEDDINGS_FILE: Final = "item_embeddings.parquet"
_PROJECTION_FILE: Final = "projection.safetensors"
_CODEBOOKS_FILE: Final = "codebooks.safetensors"
_RESIDUALS_FILE: Final = "residuals.safetensors"
_KIND: Final = "item_embeddings"


def embed_items(
    dataset: Path, knowledge: Path, config: EmbeddingConfig, *, out: Path, cache: Path | None = None
) -> None:
    """Embeds every item of a dataset artifact in a space that is fitted to it.

    Args:
        dataset: The dataset artifact.
        knowledge: The knowledge artifact of the same catalogue.
        config: Encoder, use of the knowledge, training of the space and semantic ids.
        out: The artifact folder: item_embeddings.parquet, space.json, projection.safetensors,
            residuals.safetensors, codebooks.safetensors, fold_embeddings.safetensors. With knowledge of
            complements complements.safetensors. The folder query_encoder is in it for a local BERT with mean
            pooling, such as the default encoder.
        cache: Folder of the vectors of texts, kept between runs. Without one all texts are encoded.

    Raises:
        UserError: An input is not usable or the encoder is not there.
    """
    inputs = {"dataset": dataset, "knowledge": knowledge}
    with create_artifact(out, kind=_KIND, inputs=inputs, config=config) as artifact:
        catalogue = _encode_catalogue(dataset, knowledge, config, cache)
        item_ids = catalogue.items["item_id"]
        report_summary(describe_unknown_scripts(catalogue.items["title"], config))
        engagement = read_coengagement(
            dataset, item_ids, seed=config.seed, num_folds=config.contrast.num_folds
        )
        # Threads of numpy's products wait for each other, spinning: on two busy cores that took 25 of 70 s.
        with threadpool_limits(1, user_api="blas"):
            fitted_space = fit_space(catalogue.views, catalogue.texts, engagement, config)
            vectors = fitted_space.space.project_items(
                catalogue.views, fitted_space.residuals, catalogue.texts
            )
            learned_vectors = vectors[:, : config.dimension]
            semantic_ids = fit_semantic_ids(learned_vectors, item_ids, config.semantic_ids, seed=config.seed)

        fitted_space.space.save_tensors(artifact.path / _PROJECTION_FILE)
        semantic_ids.codebooks.save_tensors(artifact.path / _CODEBOOKS_FILE)
        if len(fitted_space.fold_vectors):
            save_file({"embeddings": fitted_space.fold_vectors}, artifact.path / FOLDS_FILE)
        encoder = catalogue.encoder
        map_files = [artifact.path / name for name in (_PROJECTION_FILE, _CODEBOOKS_FILE)]
        space_name = name_embedding_space(encoder, config, map_files)
        space_description = {"space": space_name, "encoder": encoder.name, "encoder_digest": encoder.digest}
        write_space_description(artifact.path, space_description, fitted_space.space.aspect_lengths)
        is_exported = export_query_encoder(
            fitted_space.space, encoder, config, name=space_name, out=artifact.path / QUERY_ENCODER_FOLDER
        )
        artifact.metrics |= fitted_space.metrics | {"query_encoder": float(is_exported)}
        _write_embeddings(artifact, catalogue, vectors, fitted_space.residuals, semantic_ids, space_name)


def embed_new_items(
    dataset: Path,
    knowledge: Path,
    config: EmbeddingConfig,
    *,
    space: Path,
    out: Path,
    cache: Path | None = None,
) -> None:
    """Embeds a changed catalogue in a space that models already use: nothing is fitted.

    Items of that space keep their semantic ids and residuals. New ones get codes of the old codebooks. Of an
    item without knowledge, what its text lets expect is filled in.

    Args:
        dataset: The dataset artifact with the changed catalogue.
        knowledge: The knowledge artifact of that catalogue.
        config: Must be the configuration that the space was made with.
        space: The item embeddings artifact whose space is kept.
        out: The artifact folder, as of `embed_items` but without folds: nobody trains a ranker on it.
        cache: As of `embed_items`. With one only new texts are encoded.

    Raises:
        UserError: An input is not usable, or encoder or configuration are not those of the space.
    """
    inputs = {"dataset": dataset, "knowledge": knowledge, "space": space}
    with create_artifact(out, kind=_KIND, inputs=inputs, config=config) as artifact:
        catalogue = _encode_catalogue(dataset, knowledge, config, cache)
        item_ids = catalogue.items["item_id"]
        space_name = _require_same_space(space, config, catalogue.encoder)
        # Copies: the artifact must be one that a further refresh can start from.
        for file_name in (_PROJECTION_FILE, _CODEBOOKS_FILE, SPACE_FILE):
            shutil.copyfile(space / file_name, artifact.path / file_name)
        if (space / QUERY_ENCODER_FOLDER).is_dir():
            shutil.copytree(space / QUERY_ENCODER_FOLDER, artifact.path / QUERY_ENCODER_FOLDER)
        coded_items = read_table(space / _EMBEDDINGS_FILE, ITEM_EMBEDDINGS).select("item_id", "semantic_id")
        residuals = _carry_over_residuals(space, coded_items["item_id"], item_ids)
        embedding_space = EmbeddingSpace.load_tensors(space / _PROJECTION_FILE)
        vectors = embedding_space.project_items(catalogue.views, residuals, catalogue.texts)
        codebooks = Codebooks.load_tensors(space / _CODEBOOKS_FILE)
        semantic_ids = extend_semantic_ids(vectors[:, : config.dimension], codebooks, item_ids, coded_items)
        is_new = ~item_ids.is_in(coded_items["item_id"].implode())
        artifact.metrics["new_items"] = float(is_new.sum())
        _write_embeddings(artifact, catalogue, vectors, residuals, semantic_ids, space_name)


class _EncodedCatalogue(NamedTuple):
    """A catalogue as the encoder sees it."""

    items: pl.DataFrame
    """Table ITEMS; `available_at` says since when each is known, whatever the catalogue told."""
    encoder: TextEncoder
    views: ItemViews
    texts: WordTexts
    complements: ComplementVectors | None
    """None where the configuration leaves knowledge out."""


def _encode_catalogue(
    dataset: Path, knowledge: Path, config: EmbeddingConfig, cache: Path | None
) -> _EncodedCatalogue:
    items = read_table(dataset / "items.parquet", ITEMS)
    items = items.with_columns(available_at=_read_known_since(dataset))
    claims = read_table(knowledge / "knowledge.parquet", KNOWLEDGE)
    encoder = SentenceEncoder(config)
    with nullcontext(encoder) if cache is None else open_cached_encoder(cache, encoder, config) as reader:
        views = encode_views(items, claims, reader, config)
        complements = encode_complements(items, claims, reader) if config.knowledge else None
    return _EncodedCatalogue(items, encoder, views, collect_word_texts(items), complements)


def _require_same_space(space: Path, config: EmbeddingConfig, encoder: TextEncoder) -> str:
    """Returns the name of the space, once encoder and configuration prove to be its own."""
    lineage = read_lineage(space)
    if lineage.kind != _KIND:
        raise UserError(f"{space} is a '{lineage.kind}', not item embeddings whose space could be kept")
    space_description = json.loads((space / SPACE_FILE).read_text(encoding="utf-8"))
    is_same_encoder = space_description["encoder_digest"] == encoder.digest
    if not is_same_encoder or lineage.config != config.model_dump(mode="json"):
        raise UserError(
            f"space '{space_description['space']}' was made with another encoder or embedding configuration "
            f"than '{config.encoder}' as configured now; restore that section, or run train_and_deploy for a "
            "new space"
        )
    return str(space_description["space"])


def _carry_over_residuals(space: Path, coded_item_ids: pl.Series, item_ids: pl.Series) -> FloatArray:
    """Returns the residuals of the items, in their order; zero for those that the space has not met."""
    stored_residuals = load_file(space / _RESIDUALS_FILE)["residuals"]
    stored_rows = pl.DataFrame({"item_id": coded_item_ids}).with_row_index("row")
    item_rows = item_ids.to_frame("item_id").join(
        stored_rows, on="item_id", how="left", maintain_order="left"
    )["row"]
    residuals = np.zeros((len(item_ids), stored_residuals.shape[1]), np.float32)
    residuals[item_rows.is_not_null().to_numpy()] = stored_residuals[item_rows.drop_nulls().to_numpy()]
    return residuals


def _write_embeddings(
    artifact: Artifact,
    catalogue: _EncodedCatalogue,
    vectors: FloatArray,
    residuals: FloatArray,
    semantic_ids: SemanticIds,
    space_name: str,
) -> None:
    embeddings = catalogue.items.select("item_id", event_timestamp="available_at").with_columns(
        embedding=pl.Series(vectors).arr.to_list(),
        semantic_id=pl.Series(semantic_ids.codes).arr.to_list(),
        space=pl.lit(space_name),
    )
    write_table(artifact.path / _EMBEDDINGS_FILE, ITEM_EMBEDDINGS, embeddings)
    save_file({"residuals": residuals}, artifact.path / _RESIDUALS_FILE)
    artifact.labels["space"] = space_name
    artifact.metrics.update(semantic_ids.metrics)
    artifact.metrics["num_items"] = float(catalogue.items.height)
    if catalogue.complements:
        num_known = np.count_nonzero(catalogue.complements.complements.any(axis=1))
        artifact.metrics["complement_coverage"] = num_known / max(catalogue.items.height, 1)
        if num_known:
            write_complements(artifact.path, catalogue.complements)


def _read_known_since(dataset: Path) -> pl.Expr:
    """Says since when an item is known: since it is on offer, or since the log began where that is not said.

    The space itself is learned from the log up to the training end, so a vector of an earlier time knows a
    little of what followed. A ranker's training rows read fold vectors instead, where there are any. No event
    of their user has shaped those.
    """
    log_start = scan_events(dataset).select(pl.col("timestamp").min()).collect().item()
    if log_start is None:
        log_start = read_split(dataset).train_end
    return pl.coalesce("available_at", pl.lit(log_start, dtype=UTC_TIME))
