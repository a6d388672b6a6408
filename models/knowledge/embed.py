"""The step `embed_items`: from catalogue, knowledge and log to item vectors and semantic ids.

An item is seen in several views (`views.py`) and in its words; the space maps them to the aspects of one vector
(`space.py`). Of the log only what lies before the training end is read, and the time of its first event.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from contracts.artifacts import Artifact, new_artifact, read_lineage, read_table, write_table
from contracts.aspects import FOLDS_FILE, SPACE_FILE, describe_space
from contracts.dataset import Split
from contracts.digests import digest_file, digest_value
from contracts.errors import UserError
from contracts.schema import UTC_TIME
from contracts.tables import ITEM_EMBEDDINGS, ITEMS, KNOWLEDGE
from models.knowledge.config import EmbeddingConfig
from models.knowledge.encoder import Encoder, Floats, TextEncoder
from models.knowledge.engagement import read_engagement
from models.knowledge.semantic_ids import Codebooks, SemanticIds, extend, quantise
from models.knowledge.space import Space, fit_space
from models.knowledge.vectors import open_vectors
from models.knowledge.views import Views, encode_views
from models.knowledge.words import Texts, word_texts

CODEBOOKS_FILE = "codebooks.safetensors"
PROJECTION_FILE = "projection.safetensors"
RESIDUALS_FILE = "residuals.safetensors"
_KIND = "item_embeddings"


def embed_items(
    dataset: Path, knowledge: Path, config: EmbeddingConfig, *, out: Path, cache: Path | None = None
) -> None:
    """Embeds every item of a dataset artifact.

    Args:
        dataset: The dataset artifact; of its log only what lies before the training end, and its first time.
        knowledge: The knowledge artifact of the same catalogue.
        config: Encoder, use of the knowledge, training of the space and semantic ids.
        out: The artifact folder: item_embeddings.parquet, space.json, projection.safetensors,
            residuals.safetensors, codebooks.safetensors, fold_embeddings.safetensors.
        cache: Folder of the vectors of texts, kept between runs; none: all are encoded.

    Raises:
        UserError: an input is not usable or the encoder is not there.
    """
    inputs = {"dataset": dataset, "knowledge": knowledge}
    with new_artifact(out, kind=_KIND, inputs=inputs, config=config) as artifact:
        seen = _look(dataset, knowledge, config, cache)
        engagement = read_engagement(
            dataset,
            seen.items["item_id"],
            history_length=config.contrast.history_length,
            limit=config.contrast.max_targets,
            seed=config.seed,
            num_folds=config.contrast.num_folds,
        )
        fitted = fit_space(seen.views, seen.texts, engagement, config)
        vectors = fitted.space.project(seen.views, fitted.residuals, seen.texts)
        order = seen.items["item_id"].to_numpy().astype(str)
        ids = quantise(vectors[:, : config.dimension], config.semantic_ids, seed=config.seed, order=order)
        fitted.space.save(artifact.path / PROJECTION_FILE)
        if len(fitted.folds):
            save_file({"embeddings": fitted.folds}, artifact.path / FOLDS_FILE)
        ids.codebooks.save(artifact.path / CODEBOOKS_FILE)
        artifact.metrics.update(fitted.metrics)
        space = _describe_space(artifact, config, seen.encoder, fitted.space.aspects)
        _write(artifact, dataset, seen.items, vectors, fitted.residuals, ids, space)


def embed_new_items(
    dataset: Path, knowledge: Path, config: EmbeddingConfig, *, space: Path, out: Path, cache: Path | None = None
) -> None:
    """Embeds a changed catalogue in a space that models already use: nothing is fitted.

    Items of that space keep their semantic ids and residuals; new ones get the codes of the old codebooks. An item
    of which the knowledge artifact knows nothing is placed by the student, from its raw text.

    Args:
        dataset: The dataset artifact with the changed catalogue.
        knowledge: The knowledge artifact of that catalogue.
        config: Must be the configuration that the space was made with.
        space: The item embeddings artifact whose space is kept.
        out: The artifact folder, as of `embed_items` but for folds: rankers are trained on a space that was fitted.
        cache: As of `embed_items`: then only new texts are encoded.

    Raises:
        UserError: an input is not usable, or encoder or configuration are not those of the space.
    """
    inputs = {"dataset": dataset, "knowledge": knowledge, "space": space}
    with new_artifact(out, kind=_KIND, inputs=inputs, config=config) as artifact:
        seen = _look(dataset, knowledge, config, cache)
        name = _require_same_space(space, config, seen.encoder)
        for file in (PROJECTION_FILE, CODEBOOKS_FILE, SPACE_FILE):
            shutil.copyfile(space / file, artifact.path / file)
        known = read_table(space / "item_embeddings.parquet", ITEM_EMBEDDINGS).select("item_id", "semantic_id")
        residuals = _keep_residuals(space, known["item_id"], seen.items["item_id"])
        vectors = Space.load(space / PROJECTION_FILE).project(seen.views, residuals, seen.texts)
        ids = extend(
            vectors[:, : config.dimension], Codebooks.load(space / CODEBOOKS_FILE), seen.items["item_id"], known
        )
        artifact.labels["space"] = name
        artifact.metrics["new_items"] = float((~seen.items["item_id"].is_in(known["item_id"].implode())).sum())
        _write(artifact, dataset, seen.items, vectors, residuals, ids, name)


class _Seen(NamedTuple):
    """A catalogue as the encoder sees it."""

    items: pl.DataFrame
    encoder: TextEncoder
    views: Views
    texts: Texts


def _look(dataset: Path, knowledge: Path, config: EmbeddingConfig, cache: Path | None) -> _Seen:
    items = read_table(dataset / "items.parquet", ITEMS)
    claims = read_table(knowledge / "knowledge.parquet", KNOWLEDGE)
    encoder, texts = Encoder(config), word_texts(items)
    if cache is None:
        return _Seen(items, encoder, encode_views(items, claims, encoder, config), texts)
    with open_vectors(cache, encoder, config) as cached:
        return _Seen(items, encoder, encode_views(items, claims, cached, config), texts)


def _keep_residuals(space: Path, known: pl.Series, item_ids: pl.Series) -> Floats:
    """Residuals of the items, in their order; zero for those that the space has not met."""
    stored = load_file(space / RESIDUALS_FILE)["residuals"]
    places = pl.DataFrame({"item_id": known}).with_row_index("place")
    joined = item_ids.to_frame("item_id").join(places, on="item_id", how="left", maintain_order="left")["place"]
    is_known = joined.is_not_null().to_numpy()
    residuals = np.zeros((len(item_ids), stored.shape[1]), np.float32)
    residuals[is_known] = stored[joined.drop_nulls().to_numpy()]
    return residuals


def _write(
    artifact: Artifact,
    dataset: Path,
    items: pl.DataFrame,
    vectors: Floats,
    residuals: Floats,
    ids: SemanticIds,
    space: str,
) -> None:
    embeddings = items.select("item_id", event_timestamp=_known_from(dataset)).with_columns(
        embedding=_rows(vectors), semantic_id=_rows(ids.codes), space=pl.lit(space)
    )
    write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, embeddings)
    save_file({"residuals": residuals}, artifact.path / RESIDUALS_FILE)
    artifact.metrics.update(ids.metrics)
    artifact.metrics["num_items"] = float(items.height)


def _require_same_space(space: Path, config: EmbeddingConfig, encoder: TextEncoder) -> str:
    """Name of the space, once encoder and configuration are found to be its own."""
    lineage = read_lineage(space)
    if lineage.kind != _KIND:
        raise UserError(f"{space} is a '{lineage.kind}', not item embeddings whose space could be kept")
    described, made_with = json.loads((space / SPACE_FILE).read_text(encoding="utf-8")), lineage.config
    if described["encoder_digest"] != encoder.digest or made_with != config.model_dump(mode="json"):
        raise UserError(
            f"space '{described['space']}' was made with another encoder or embedding configuration than "
            f"'{config.encoder}' as configured now; restore that section, or run train_and_deploy for a new space"
        )
    return str(described["space"])


def _describe_space(artifact: Artifact, config: EmbeddingConfig, encoder: TextEncoder, aspects: dict[str, int]) -> str:
    """Names the space by what makes its vectors and codes comparable: encoder, projection, codebooks and settings."""
    fitted = [digest_file(artifact.path / name) for name in (PROJECTION_FILE, CODEBOOKS_FILE)]
    digest = digest_value([encoder.digest, config.model_dump(mode="json"), *fitted])
    space = f"{encoder.name}-{'knowledge' if config.knowledge else 'text'}-{digest[:8]}"
    description: dict[str, object] = {"space": space, "encoder": encoder.name, "encoder_digest": encoder.digest}
    describe_space(artifact.path, description, aspects)
    artifact.labels["space"] = space
    return space


def _known_from(dataset: Path) -> pl.Expr:
    """An item is known since it is on offer; where that is not said, since the log began.

    The space itself is learnt from the log up to the training end. A vector of an earlier time therefore knows a little
    of what followed; a ranker's training rows read fold vectors instead, where there are any, which no event of their
    user has shaped.
    """
    first = pl.scan_parquet(dataset / "events.parquet").select(pl.col("timestamp").min()).collect().item()
    if first is None:
        first = Split.model_validate_json((dataset / "split.json").read_text(encoding="utf-8")).train_end
    return pl.coalesce("available_at", pl.lit(first, dtype=UTC_TIME))


def _rows(matrix: Floats | np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> pl.Series:
    return pl.Series(matrix).arr.to_list()
