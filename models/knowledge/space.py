"""The embedding space: from an item's views to its vector.

Text encoders put all texts of a shop into a narrow cone: a common mean and a few strong directions hide what tells
products apart. So each view is centred, rotated onto its principal axes, cut, and the axes are evened out a little
(partial whitening, as in Su et al. 2021, "Whitening sentence representations"). A projection trained on co-engagement
(`contrast.py`) makes one vector of all views and of the item's exact words (`words.py`); where nothing is known of an
item, a student (`student.py`) does so from its raw text. Beside this learnt vector stand what training blurs: exact
words, knowledge and brand, each an aspect of unit norm that is compared on its own.

Shape legend: N items, D encoder, w directions of one map, W all that is read of an item, d dimension, K folds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from contracts.errors import UserError
from models.knowledge.config import EmbeddingConfig
from models.knowledge.contrast import train_projection
from models.knowledge.encoder import Floats
from models.knowledge.engagement import Engagement
from models.knowledge.matrices import blocks, new_matrix
from models.knowledge.projection import Projection
from models.knowledge.student import teach
from models.knowledge.views import BRAND, KNOWLEDGE, Views, unit
from models.knowledge.words import PAGE_WORDS, TITLE_WORDS, Texts, Words, fit_words

_SHRINKAGE = 10.0
"""Items' worth of doubt in a mean: keeps a catalogue of one item, or of equal items, from being centred to nothing."""
_MIN_VARIANCE = 1e-4
"""Axes with a smaller share of the largest variance are not raised further: they are noise."""


class Whitening(NamedTuple):
    """Evens out one view."""

    mean: Floats
    """[D]"""
    axes: Floats
    """[D, w] principal axes, scaled."""

    @classmethod
    def fit(cls, view: Floats, *, size: int, strength: float) -> Self:
        """Fits to a catalogue's view [N, D]; items that lack it don't count."""
        mean = _sum(view, lambda part: part.sum(axis=0)) / (_sum(view, len) + _SHRINKAGE)
        covariance = _sum(view, lambda part: (part - mean).T @ (part - mean))
        variances, axes = np.linalg.eigh(covariance.astype(np.float32))
        variances, axes = variances[::-1][:size], axes[:, ::-1][:, :size]
        scale = np.maximum(variances / max(float(variances[0]), 1e-12), _MIN_VARIANCE) ** -strength
        return cls(mean.astype(np.float32), np.ascontiguousarray(axes * scale, dtype=np.float32))

    def apply(self, view: Floats) -> Floats:
        """Unit vectors [N, w]; zeros where an item lacks the view."""
        seen = unit(np.asarray((view - self.mean) @ self.axes, np.float32))
        seen[~view.any(axis=1)] = 0
        return seen


def _sum(view: Floats, function: Callable[[Floats], Any]) -> Any:
    """Sum over the catalogue of a function of some items that have the view."""
    return sum(function(part[part.any(axis=1)].astype(np.float64)) for part in map(view.__getitem__, blocks(len(view))))


class Reader(NamedTuple):
    """Makes the inputs of projections out of views and words."""

    whitenings: dict[str, Whitening]
    """By view; the knowledge comes last."""
    words: dict[str, Words]
    """By kind."""

    @classmethod
    def fit(cls, views: Views, texts: Texts, config: EmbeddingConfig) -> Self:
        """Fits to the views and texts of a catalogue."""
        sizes = {name: config.knowledge_axes if name == KNOWLEDGE else config.text_axes for name in views}
        whitenings = {
            name: Whitening.fit(view, size=sizes[name], strength=config.whitening) for name, view in views.items()
        }
        wanted = {TITLE_WORDS: config.words.title_axes, PAGE_WORDS: config.words.page_axes}
        return cls(whitenings, fit_words(texts, wanted, max_words=config.words.max_words, seed=config.seed))

    @property
    def width(self) -> int:
        """W, the length of what is read of an item."""
        maps = [map_.axes for map_ in self.whitenings.values()] + [map_.axes for map_ in self.words.values()]
        return sum(axes.shape[1] for axes in maps)

    def read(self, views: Views, texts: Texts) -> tuple[Floats, Floats]:
        """What the raw texts say, and all there is to read: [N, W] each, the knowledge last."""
        num_items = len(next(iter(views.values())))
        full = new_matrix(num_items, self.width)
        for rows in blocks(num_items):
            seen = {name: whitening.apply(views[name][rows]) for name, whitening in self.whitenings.items()}
            known = [seen.pop(KNOWLEDGE)] if KNOWLEDGE in seen else []
            said = [words.apply(texts[kind][rows]) for kind, words in self.words.items()]
            full[rows] = np.concatenate([*seen.values(), *said, *known], axis=1)
        num_known = self.whitenings[KNOWLEDGE].axes.shape[1] if KNOWLEDGE in self.whitenings else 0
        return full[:, : full.shape[1] - num_known], full


class Space(NamedTuple):
    """Maps views and words to item vectors."""

    reader: Reader
    teacher: Projection
    """Reads all there is."""
    student: Projection | None
    """Reads the raw texts alone; None where the space knows no knowledge."""
    axes: dict[str, int]
    """View, or `words` -> its leading axes that stand beside the learnt vector."""

    @property
    def aspects(self) -> dict[str, int]:
        """Aspect -> length, in the order of an item's vector; an aspect without any length is none."""
        aspects = {"learnt": self.teacher.linear.out_features} | self.axes
        return {name: length for name, length in aspects.items() if length}

    def project(self, views: Views, residuals: Floats, texts: Texts) -> Floats:
        """All aspects of items with residuals [N, d] and texts from `word_texts`, side by side."""
        found = np.empty((len(residuals), sum(self.aspects.values())), np.float32)
        for rows in blocks(len(residuals)):
            some = {name: view[rows] for name, view in views.items()}
            said = {kind: words[rows] for kind, words in texts.items()}
            beside = [self._look(name, some, said) for name in self.axes]
            found[rows] = np.concatenate([unit(self.place(some, said) + residuals[rows]), *beside], axis=1)
        return found

    def _look(self, name: str, views: Views, texts: Texts) -> Floats:
        size = self.axes[name]
        if name in self.reader.words:
            return self.reader.words[name].apply(texts[name], size=size)
        return unit(self.reader.whitenings[name].apply(views[name])[:, :size])

    def place(self, views: Views, texts: Texts) -> Floats:
        """Points [N, d] where items stand by what is said and known of them; the unknown by their raw text."""
        said, full = self.reader.read(views, texts)
        points = self.teacher.project(full)
        if self.student is not None:
            unknown = ~views[KNOWLEDGE].any(axis=1)
            points[unknown] = self.student.project(said[unknown])
        return points

    def save(self, path: Path) -> None:
        """Writes the maps as safetensors."""
        tensors = {
            f"view.{place:02d}.{name}.{part}": values
            for place, (name, whitening) in enumerate(self.reader.whitenings.items())
            for part, values in whitening._asdict().items()
        }
        for role in ("teacher", "student"):
            projection = getattr(self, role)
            if projection is not None:
                tensors |= {f"{role}.{name}": values.numpy() for name, values in projection.state_dict().items()}
        for place, (kind, words) in enumerate(self.reader.words.items()):
            tensors |= {f"words.{place:02d}.{kind}.{name}": values for name, values in words.tensors().items()}
        tensors |= {
            f"axes.{place:02d}.{name}": np.array([size]) for place, (name, size) in enumerate(self.axes.items())
        }
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        tensors = load_file(path)
        whitenings = {name: Whitening(**_part(tensors, f"view.{key}")) for key, name in _named(tensors, "view")}
        words = {kind: Words.from_tensors(_part(tensors, f"words.{key}")) for key, kind in _named(tensors, "words")}
        axes = {name: int(tensors[f"axes.{key}"][0]) for key, name in _named(tensors, "axes")}
        roles = {role: _part(tensors, role) for role in ("teacher", "student")}
        student = Projection.from_tensors(roles["student"]) if roles["student"] else None
        return cls(Reader(whitenings, words), Projection.from_tensors(roles["teacher"]), student, axes)


class FittedSpace(NamedTuple):
    """A space and the catalogue that it was fitted to."""

    space: Space
    residuals: Floats
    """[N, d] what the log says of each item beyond its views."""
    folds: Floats
    """[K, N, d] the learnt aspect, each without what one part of the users did."""
    metrics: dict[str, float]


def fit_space(views: Views, texts: Texts, engagement: Engagement, config: EmbeddingConfig) -> FittedSpace:
    """Fits the space to a catalogue's views, to its texts from `word_texts` and to the log before the training end.

    Raises:
        UserError: the wanted dimension is larger than all views together.
    """
    reader = Reader.fit(views, texts, config)
    said, full = reader.read(views, texts)
    if config.dimension > full.shape[1]:
        raise UserError(
            f"embedding.dimension: {config.dimension} is more than the {full.shape[1]} directions of all views and "
            "words; lower it, or raise embedding.text_axes"
        )
    trained = train_projection(full, engagement, config.contrast, dimension=config.dimension, seed=config.seed)
    metrics = {"contrast_targets": float(len(engagement.targets))}
    student = None
    if KNOWLEDGE in views:
        points = trained.projection.project(full)
        catalogue = unit(points + trained.residuals)
        taught = teach(trained.projection, said, points, catalogue, config.student, seed=config.seed)
        student = taught.student
        if taught.recall10 is not None:
            metrics["student_recall10"] = taught.recall10
    space = Space(reader, trained.projection, student, _axes_beside(reader, config))
    return FittedSpace(space, trained.residuals, _fit_folds(full, engagement, config), metrics)


def _axes_beside(reader: Reader, config: EmbeddingConfig) -> dict[str, int]:
    """What stands beside the learnt vector, and how much of each there is."""
    wanted = {TITLE_WORDS: config.aspects.words, BRAND: config.aspects.brand, KNOWLEDGE: config.aspects.knowledge}
    there = {name: map_.axes.shape[1] for name, map_ in (reader.words | reader.whitenings).items()}
    return {name: min(size, there[name]) for name, size in wanted.items() if size and there.get(name)}


def _fit_folds(full: Floats, engagement: Engagement, config: EmbeddingConfig) -> Floats:
    """Cross-fitting: fold k's vectors [K, N, d] are learnt from the users of all other folds."""
    folds = np.empty((config.contrast.num_folds, len(full), config.dimension), np.float32)
    for fold in range(len(folds)):
        others = Engagement(*(part[engagement.folds != fold] for part in engagement))
        trained = train_projection(full, others, config.contrast, dimension=config.dimension, seed=config.seed)
        folds[fold] = unit(trained.projection.project(full) + trained.residuals)
    return folds


def _part(tensors: dict[str, Floats], prefix: str) -> dict[str, Floats]:
    return {
        name.removeprefix(f"{prefix}."): values for name, values in tensors.items() if name.startswith(f"{prefix}.")
    }


def _named(tensors: dict[str, Floats], role: str) -> list[tuple[str, str]]:
    """(`place.name`, `name`) of the parts of a role, in order."""
    keys = sorted({".".join(name.split(".")[1:3]) for name in tensors if name.startswith(f"{role}.")})
    return [(key, key.partition(".")[2]) for key in keys]
