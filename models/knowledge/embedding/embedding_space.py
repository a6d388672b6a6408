"""The embedding space: from an item's views to its vector.

A projection trained on co-engagement (`space_training.py`) makes one vector of all views and of the item's
exact words (`projection_inputs.py`). Where nothing is known of an item, what its text lets expect is filled
in there. A query, of which there is a title alone, is placed by a student (`student.py`). Beside this learned
vector stand what training blurs: exact words, brand and knowledge. Each is
an aspect of unit norm that is compared on its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from contracts.array_types import FloatArray
from contracts.digests import digest_file, digest_value
from contracts.errors import UserError
from models.knowledge.config import AspectsConfig, EmbeddingConfig
from models.knowledge.embedding.coengagement import CoEngagement
from models.knowledge.embedding.exact_words import TITLE_WORDS, WordTexts, WordVectorizer
from models.knowledge.embedding.item_views import (
    BESIDE,
    BRAND,
    KNOWLEDGE,
    KNOWLEDGE_VIEWS,
    NEEDS,
    ItemViews,
    normalize_rows,
)
from models.knowledge.embedding.mapped_matrices import iterate_row_blocks
from models.knowledge.embedding.projection import Projection
from models.knowledge.embedding.projection_inputs import InputBuilder, ViewWhitener
from models.knowledge.embedding.space_training import train_spaces
from models.knowledge.embedding.student import train_student
from models.knowledge.embedding.text_encoder import TextEncoder

_FILLER: Final = "filler.00.knowledge"


def name_embedding_space(encoder: TextEncoder, config: EmbeddingConfig, map_files: Sequence[Path]) -> str:
    """Names a space, such as `all-minilm-l6-v2-knowledge-1f0c9a3e`.

    Two spaces share a name only where their vectors and codes are comparable. So the digest at its end covers
    the encoder, the configuration and the files of the fitted maps: projection and codebooks.
    """
    digest = digest_value([encoder.digest, config.model_dump(mode="json"), *map(digest_file, map_files)])
    return f"{encoder.name}-{'knowledge' if config.knowledge else 'text'}-{digest[:8]}"


class EmbeddingSpace(NamedTuple):
    """Maps views and words to item vectors."""

    input_builder: InputBuilder
    projection: Projection
    """Reads all there is."""
    student: Projection | None
    """Reads the raw texts alone, for queries; None where the space has no knowledge."""
    aspect_axes: dict[str, int]
    """View, or `words` -> number of its leading axes that stand beside the learned vector."""

    @property
    def aspect_lengths(self) -> dict[str, int]:
        """Aspect -> length, in the order of an item's vector."""
        return {"learned": self.projection.linear.out_features} | self.aspect_axes

    def project_items(self, views: ItemViews, residuals: FloatArray, texts: WordTexts) -> FloatArray:
        """Returns all aspects of items with residuals [N, D], side by side.

        Raises:
            UserError: the space reads views that there are none of any more.
        """
        gone_parts = sorted(self.input_builder.whiteners.keys() - views.keys())
        if self.student is not None and self.input_builder.filler is None:
            gone_parts.append("items without knowledge as such")
        if gone_parts:
            raise UserError(
                f"these item embeddings read '{', '.join(gone_parts)}', which this version does not make: an "
                "earlier version made them. Embed the catalogue anew (pipeline `train_and_deploy`)"
            )
        vectors = np.empty((len(residuals), sum(self.aspect_lengths.values())), np.float32)
        for block in iterate_row_blocks(len(residuals)):
            block_views = {name: view[block] for name, view in views.items()}
            block_texts = {kind: kind_texts[block] for kind, kind_texts in texts.items()}
            _, inputs = self.input_builder.build_inputs(block_views, block_texts)
            points = self.projection.project_views(inputs)
            learned_vectors = normalize_rows(points + residuals[block])
            aspect_vectors = [
                normalize_rows(self.input_builder.select_view(inputs, name)[:, :num_axes])
                if name in KNOWLEDGE_VIEWS
                else self._compute_text_aspect(name, block_views, block_texts)
                for name, num_axes in self.aspect_axes.items()
            ]
            vectors[block] = np.concatenate([learned_vectors, *aspect_vectors], axis=1)
        return vectors

    def project_queries(self, views: ItemViews, texts: WordTexts) -> FloatArray:
        """Returns all aspects of texts [N, D] of which nothing else is known, side by side.

        The student places them, and the aspects of knowledge are zeros: so does the query encoder, which
        serves without torch.
        """
        text_inputs, full_inputs = self.input_builder.build_inputs(views, texts)
        # Without knowledge there is no student, and the projection itself reads raw texts alone.
        points = (
            self.student.project_views(text_inputs)
            if self.student
            else self.projection.project_views(full_inputs)
        )
        aspect_vectors = [
            np.zeros((len(points), num_axes), np.float32)
            if name in KNOWLEDGE_VIEWS
            else self._compute_text_aspect(name, views, texts)
            for name, num_axes in self.aspect_axes.items()
        ]
        return np.concatenate([normalize_rows(points), *aspect_vectors], axis=1)

    def _compute_text_aspect(self, name: str, views: ItemViews, texts: WordTexts) -> FloatArray:
        num_axes = self.aspect_axes[name]
        if name in self.input_builder.word_vectorizers:
            return self.input_builder.word_vectorizers[name].vectorize_texts(texts[name], num_axes=num_axes)
        whitened_view = self.input_builder.whiteners[name].whiten_view(views[name])
        return normalize_rows(whitened_view[:, :num_axes])

    def save_tensors(self, path: Path) -> None:
        """Writes the maps as safetensors."""
        tensors = {
            f"view.{position:02d}.{name}.{field}": values
            for position, (name, whitener) in enumerate(self.input_builder.whiteners.items())
            for field, values in whitener._asdict().items()
        }
        for role, projection in {"teacher": self.projection, "student": self.student}.items():
            projection_state = projection.state_dict() if projection is not None else {}
            tensors |= {f"{role}.{name}": values.numpy() for name, values in projection_state.items()}
        tensors |= {
            f"words.{position:02d}.{kind}.{field}": values
            for position, (kind, vectorizer) in enumerate(self.input_builder.word_vectorizers.items())
            for field, values in vectorizer.to_tensors().items()
        }
        tensors |= {
            # Safetensors have no order of their own: the position keeps that of the aspects.
            f"axes.{position:02d}.{name}": np.array([num_axes])
            for position, (name, num_axes) in enumerate(self.aspect_axes.items())
        }
        if self.input_builder.filler is not None:
            tensors[_FILLER] = self.input_builder.filler
        save_file(tensors, path)

    @classmethod
    def load_tensors(cls, path: Path) -> Self:
        """Reads what `save_tensors` wrote."""
        tensors = load_file(path)
        view_tensors, word_tensors, axis_tensors = (
            _group_tensors(tensors, role) for role in ("view", "words", "axes")
        )
        whiteners = {name: ViewWhitener(**fields) for name, fields in view_tensors.items()}
        vectorizers = {kind: WordVectorizer.from_tensors(fields) for kind, fields in word_tensors.items()}
        aspect_axes = {name: int(fields[""][0]) for name, fields in axis_tensors.items()}
        full_state, student_state = (
            {
                name.removeprefix(f"{role}."): values
                for name, values in tensors.items()
                if name.startswith(f"{role}.")
            }
            for role in ("teacher", "student")
        )
        return cls(
            InputBuilder(whiteners, vectorizers, tensors.get(_FILLER)),
            Projection.from_tensors(full_state),
            Projection.from_tensors(student_state) if student_state else None,
            aspect_axes,
        )


def _group_tensors(tensors: dict[str, FloatArray], role: str) -> dict[str, dict[str, FloatArray]]:
    """Returns tensors `role.position.name.field` as name -> field -> tensor, in the order of position."""
    grouped_tensors: dict[str, dict[str, FloatArray]] = {}
    for key in sorted(tensors):
        key_role, _, name, *fields = key.split(".", 3)
        if key_role == role:
            grouped_tensors.setdefault(name, {})[".".join(fields)] = tensors[key]
    return grouped_tensors


class FittedEmbeddingSpace(NamedTuple):
    """A space and the catalogue that it was fitted to."""

    space: EmbeddingSpace
    residuals: FloatArray
    """[I, D] what the log says of each item beyond its views."""
    fold_vectors: FloatArray
    """[F, I, D] the learned aspect, each without what one fold of the users did."""
    metrics: dict[str, float]


def fit_space(
    views: ItemViews, texts: WordTexts, engagement: CoEngagement, config: EmbeddingConfig
) -> FittedEmbeddingSpace:
    """Fits the space to a catalogue's views, to its texts from `collect_word_texts` and to the log.

    Raises:
        UserError: The configured dimension is larger than all views together.
    """
    input_builder = InputBuilder.fit_catalogue(views, texts, seed=config.seed)
    text_inputs, full_inputs = input_builder.build_inputs(views, texts)
    input_builder = input_builder.fit_filler(full_inputs)
    if config.dimension > full_inputs.shape[1]:
        raise UserError(
            f"embedding.dimension: {config.dimension} is more than the {full_inputs.shape[1]} directions of "
            "all views and words; lower it"
        )
    trained = train_spaces(
        full_inputs, engagement, config.contrast, dimension=config.dimension, seed=config.seed
    )
    projection, residuals = trained.whole
    metrics = {"contrast_targets": float(len(engagement.targets))}
    student = None
    if not views.keys().isdisjoint(KNOWLEDGE_VIEWS):
        points = projection.project_views(full_inputs)
        catalogue_vectors = normalize_rows(points + residuals)
        trained_student = train_student(projection, text_inputs, points, catalogue_vectors, seed=config.seed)
        student = trained_student.student
        if trained_student.recall10 is not None:
            metrics["student_recall10"] = trained_student.recall10
    aspect_axes = _limit_aspect_axes(config.aspects, input_builder.axis_counts)
    space = EmbeddingSpace(input_builder, projection, student, aspect_axes)
    fold_vectors = np.empty((len(trained.folds), len(full_inputs), config.dimension), np.float32)
    for vectors, fold in zip(fold_vectors, trained.folds, strict=True):
        vectors[:] = normalize_rows(fold.projection.project_views(full_inputs) + fold.residuals)
    return FittedEmbeddingSpace(space, residuals, fold_vectors, metrics)


def _limit_aspect_axes(config: AspectsConfig, axis_counts: dict[str, int]) -> dict[str, int]:
    """Returns how many axes of each aspect stand beside the learned vector; an aspect of none is left out."""
    configured_axes = {
        TITLE_WORDS: config.words,
        BRAND: config.brand,
        KNOWLEDGE: config.knowledge,
        NEEDS: config.knowledge,
        BESIDE: config.knowledge,
    }
    aspect_axes = {name: min(size, axis_counts.get(name, 0)) for name, size in configured_axes.items()}
    return {name: num_axes for name, num_axes in aspect_axes.items() if num_axes}
