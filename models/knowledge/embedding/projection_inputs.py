"""The inputs of the projections: an item's views and words side by side, evened out.

Text encoders put all texts of a shop into a narrow cone: a common mean and a few strong directions hide what
tells products apart. So each view is centered, rotated onto its principal axes and cut. The axes are then
evened out a little (partial whitening, as in Su et al. 2021, "Whitening sentence representations").

Where nothing is known of an item, ridge regression fills in what its text lets expect. Zeros instead would
set all unknown items apart from the known ones: half of a large model's knowledge was worth nothing then.

Shape suffixes beside the room's: X numbers of an encoder's vector, A axes of one view, T of all inputs of raw
text, W of all inputs, K of their principal axes.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self

import numpy as np

from contracts.array_types import FloatArray
from models.knowledge.embedding.exact_words import WordTexts, WordVectorizer, fit_word_vectorizers
from models.knowledge.embedding.item_views import KNOWLEDGE_VIEWS, ItemViews, normalize_rows
from models.knowledge.embedding.mapped_matrices import allocate_matrix, iterate_row_blocks

_TEXT_AXES: Final = 256
"""Principal components kept of each view of the raw text."""
_KNOWLEDGE_AXES: Final = 128
"""Principal components kept of each knowledge view: claims repeat, so fewer directions hold them."""
_WHITENING_STRENGTH: Final = 0.25
"""How far a view's principal axes are evened out: 0 not at all, 0.5 to equal variance."""
_SHRINKAGE: Final = 10.0
"""Items' worth of doubt in a mean: else a catalogue of equal items would be centered to nothing."""
_MIN_VARIANCE: Final = 1e-4
"""Axes with a smaller share of the largest variance are not raised further: they are noise."""
_FILLER_RIDGE: Final = 1.0
"""Added to the second moments of the texts' inputs, whose rows have a norm of about 2."""
_TRAINED_VARIANCE: Final = 0.999
"""Share of the inputs' variance that training sees. On `scientific` 84 % of it (512 axes) cost 3 % NDCG."""


class ViewWhitener(NamedTuple):
    """Evens out one view."""

    mean: FloatArray
    """[X]"""
    axes: FloatArray
    """[X, A] principal axes, scaled."""

    @classmethod
    def fit_view(
        cls, view: FloatArray, *, num_axes: int = _TEXT_AXES, strength: float = _WHITENING_STRENGTH
    ) -> Self:
        """Fits to a catalogue's view [I, X]; items that lack it don't count."""
        num_items = _sum_over_items(view, len)
        mean = _sum_over_items(view, lambda rows: rows.sum(axis=0)) / (num_items + _SHRINKAGE)
        covariance = _sum_over_items(view, lambda rows: (rows - mean).T @ (rows - mean))
        variances, axes = np.linalg.eigh(covariance.astype(np.float32))
        # eigh sorts the axes from the least variance to the largest.
        variances, axes = variances[::-1][:num_axes], axes[:, ::-1][:, :num_axes]
        axis_scales = np.maximum(variances / max(float(variances[0]), 1e-12), _MIN_VARIANCE) ** -strength
        return cls(mean.astype(np.float32), np.ascontiguousarray(axes * axis_scales, dtype=np.float32))

    def whiten_view(self, view: FloatArray) -> FloatArray:
        """Returns unit vectors [N, A]; zeros where an item lacks the view."""
        whitened_view = normalize_rows(np.asarray((view - self.mean) @ self.axes, np.float32))
        whitened_view[~view.any(axis=1)] = 0
        return whitened_view


def _sum_over_items(view: FloatArray, summand: Callable[[FloatArray], Any]) -> Any:
    """Sums, block by block, a function of the items that have the view."""
    # In double precision: a sum over a million rows loses digits in single.
    view_blocks = (view[block] for block in iterate_row_blocks(len(view)))
    return sum(summand(rows[rows.any(axis=1)].astype(np.float64)) for rows in view_blocks)


class InputBuilder(NamedTuple):
    """Makes the inputs of projections out of views and words."""

    whiteners: dict[str, ViewWhitener]
    """By view; those of the knowledge come last."""
    word_vectorizers: dict[str, WordVectorizer]
    """By kind."""
    filler: FloatArray | None = None
    """[T, W - T] from the texts' inputs to the knowledge's that they let expect; None without knowledge."""

    @classmethod
    def fit_catalogue(cls, views: ItemViews, texts: WordTexts, *, seed: int) -> Self:
        """Fits whiteners and vectorizers to the views and texts of a catalogue, but no filler."""
        whiteners = {
            name: ViewWhitener.fit_view(
                view, num_axes=_KNOWLEDGE_AXES if name in KNOWLEDGE_VIEWS else _TEXT_AXES
            )
            for name, view in views.items()
        }
        return cls(whiteners, fit_word_vectorizers(texts, seed=seed))

    @property
    def axis_counts(self) -> dict[str, int]:
        """View or kind of words -> number of its axes; together they are W, the width of the inputs."""
        maps = self.word_vectorizers | self.whiteners
        return {name: fitted_map.axes.shape[1] for name, fitted_map in maps.items()}

    def fit_filler(self, inputs: FloatArray) -> Self:
        """Fits the filler to inputs [I, W] of a catalogue, and fills these in place."""
        num_texts = inputs.shape[1] - self._knowledge_width
        if not self._knowledge_width:
            return self
        moments = _FILLER_RIDGE * np.eye(num_texts, inputs.shape[1])
        for block in iterate_row_blocks(len(inputs)):
            known_rows = inputs[block][inputs[block][:, num_texts:].any(axis=1)].astype(np.float64)
            moments += known_rows[:, :num_texts].T @ known_rows
        filler = np.linalg.solve(moments[:, :num_texts], moments[:, num_texts:])
        filled = self._replace(filler=filler.astype(np.float32))
        for block in iterate_row_blocks(len(inputs)):
            filled._fill_unknown(inputs[block])
        return filled

    def select_view(self, inputs: FloatArray, name: str) -> FloatArray:
        """Returns the columns [N, A] of a knowledge view in inputs [N, W]."""
        stop = inputs.shape[1]
        for view in reversed(KNOWLEDGE_VIEWS):
            start = stop - self.axis_counts.get(view, 0)
            if view == name:
                return inputs[:, start:stop]
            stop = start
        raise KeyError(name)

    @property
    def _knowledge_width(self) -> int:
        return sum(self.axis_counts.get(name, 0) for name in KNOWLEDGE_VIEWS)

    def _fill_unknown(self, inputs: FloatArray) -> None:
        """Fills in the knowledge's columns where all are zero; each view gets unit norm, as others have."""
        num_texts = inputs.shape[1] - self._knowledge_width
        is_unknown = ~inputs[:, num_texts:].any(axis=1)
        if self.filler is None or not is_unknown.any():
            return
        inputs[is_unknown, num_texts:] = inputs[is_unknown, :num_texts] @ self.filler
        for name in KNOWLEDGE_VIEWS:
            if name in self.whiteners:
                columns = self.select_view(inputs, name)
                columns[is_unknown] = normalize_rows(columns[is_unknown])

    def build_inputs(self, views: ItemViews, texts: WordTexts) -> tuple[FloatArray, FloatArray]:
        """Returns the inputs [I, W] without and with the knowledge, which comes last."""
        num_items = len(next(iter(views.values())))
        inputs = allocate_matrix(num_items, sum(self.axis_counts.values()))
        for block in iterate_row_blocks(num_items):
            columns = {
                name: whitener.whiten_view(views[name][block]) for name, whitener in self.whiteners.items()
            }
            # The knowledge goes last: what the student reads is then a prefix of what the projection reads.
            knowledge_columns = [columns.pop(name) for name in KNOWLEDGE_VIEWS if name in columns]
            for kind, vectorizer in self.word_vectorizers.items():
                columns[kind] = vectorizer.vectorize_texts(texts[kind][block])
            inputs[block] = np.concatenate([*columns.values(), *knowledge_columns], axis=1)
            self._fill_unknown(inputs[block])
        return inputs[:, : inputs.shape[1] - self._knowledge_width], inputs


def fit_principal_axes(inputs: FloatArray, min_axes: int) -> FloatArray:
    """Returns the principal axes [W, K] of inputs [I, W], without those in which they hardly differ."""
    variances, axes = np.linalg.eigh(inputs.T @ inputs)
    # eigh sorts the axes from the least variance to the largest.
    kept_shares = np.cumsum(variances[::-1]) / max(float(variances.sum()), 1e-12)
    num_axes = max(int((kept_shares < _TRAINED_VARIANCE).sum()) + 1, min_axes)
    return np.ascontiguousarray(axes[:, ::-1][:, :num_axes], dtype=np.float32)


def rotate_inputs(inputs: FloatArray, axes: FloatArray) -> FloatArray:
    """Returns inputs [I, W] on principal axes [W, K]."""
    rotated_inputs = allocate_matrix(len(inputs), axes.shape[1])
    for block in iterate_row_blocks(len(inputs)):
        rotated_inputs[block] = inputs[block] @ axes
    return rotated_inputs
