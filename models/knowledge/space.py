"""The embedding space: from an item's views to its vector.

Text encoders put all texts of a shop into a narrow cone: a common mean and a few strong directions hide what tells
products apart. So each view is centred, rotated onto its principal axes, cut, and the axes are evened out a little
(partial whitening, as in Su et al. 2021, "Whitening sentence representations"). A projection trained on co-engagement
(`contrast.py`) makes one vector of all views; where nothing is known of an item, a student (`student.py`) does so from
its raw text. Beside this learnt vector stand what training blurs: exact words, knowledge and brand, each an aspect of
unit norm that is compared on its own.

Shape legend: N items, D encoder, W width of all views together, d dimension of the space.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from contracts.errors import UserError
from models.knowledge.config import EmbeddingConfig
from models.knowledge.contrast import train_projection
from models.knowledge.encoder import Floats
from models.knowledge.engagement import Engagement
from models.knowledge.projection import Projection
from models.knowledge.student import teach
from models.knowledge.views import BRAND, KNOWLEDGE, Views, unit
from models.knowledge.words import Words

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
        present = view[view.any(axis=1)]
        mean = np.asarray(present.sum(axis=0) / (len(present) + _SHRINKAGE), np.float32)
        centred = present - mean
        variances, axes = np.linalg.eigh(centred.T @ centred)
        variances, axes = variances[::-1][:size], axes[:, ::-1][:, :size]
        scale = np.maximum(variances / max(float(variances[0]), 1e-12), _MIN_VARIANCE) ** -strength
        return cls(mean, np.ascontiguousarray(axes * scale, dtype=np.float32))

    def apply(self, view: Floats) -> Floats:
        """Unit vectors [N, w]; zeros where an item lacks the view."""
        seen = unit(np.asarray((view - self.mean) @ self.axes, np.float32))
        seen[~view.any(axis=1)] = 0
        return seen


def whiten(views: Views, whitenings: dict[str, Whitening]) -> tuple[Floats, Floats]:
    """The raw-text views alone and all views, whitened, side by side: [N, W] each, the knowledge last."""
    seen = {name: whitening.apply(views[name]) for name, whitening in whitenings.items()}
    texts = np.concatenate([view for name, view in seen.items() if name != KNOWLEDGE], axis=1)
    return texts, np.concatenate([texts, seen[KNOWLEDGE]], axis=1) if KNOWLEDGE in seen else texts


class Space(NamedTuple):
    """Maps views and words to item vectors."""

    whitenings: dict[str, Whitening]
    """By view, in the order of the projection's inputs; the knowledge comes last."""
    teacher: Projection
    """Reads all views."""
    student: Projection | None
    """Reads the raw texts alone; None where the space knows no knowledge."""
    words: Words
    """Reads titles and brands word by word."""
    axes: dict[str, int]
    """View -> its leading axes that stand beside the learnt vector."""

    @property
    def aspects(self) -> dict[str, int]:
        """Aspect -> length, in the order of an item's vector; an aspect without any length is none."""
        learnt = self.teacher.linear.out_features
        aspects = {"learnt": learnt, "words": self.words.axes.shape[1]} | self.axes
        return {name: length for name, length in aspects.items() if length}

    def project(self, views: Views, residuals: Floats, texts: Sequence[str]) -> Floats:
        """All aspects of items with residuals [N, d] and texts from `word_texts`, side by side."""
        beside = [unit(self.whitenings[name].apply(views[name])[:, :size]) for name, size in self.axes.items()]
        return np.concatenate([self.learn(views, residuals), self.words.apply(texts), *beside], axis=1)

    def learn(self, views: Views, residuals: Floats) -> Floats:
        """The learnt aspect, unit vectors [N, d]; what is not known at all is placed by its raw text."""
        return unit(self.place(views) + residuals)

    def place(self, views: Views) -> Floats:
        """Points [N, d] where items stand by what is said and known of them."""
        texts, full = whiten(views, self.whitenings)
        points = self.teacher.project(full)
        if self.student is not None:
            unknown = ~views[KNOWLEDGE].any(axis=1)
            points[unknown] = self.student.project(texts[unknown])
        return points

    def save(self, path: Path) -> None:
        """Writes the maps as safetensors."""
        tensors = {
            f"view.{place:02d}.{name}.{part}": values
            for place, (name, whitening) in enumerate(self.whitenings.items())
            for part, values in whitening._asdict().items()
        }
        for role in ("teacher", "student"):
            projection = getattr(self, role)
            if projection is not None:
                tensors |= {f"{role}.{name}": values.numpy() for name, values in projection.state_dict().items()}
        tensors |= {f"words.{name}": values for name, values in self.words.tensors().items()}
        tensors |= {f"axes.{name}": np.array([size]) for name, size in self.axes.items()}
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        tensors = load_file(path)
        names = sorted({tuple(name.split(".")[1:3]) for name in tensors if name.startswith("view.")})
        whitenings = {
            name: Whitening(*(tensors[f"view.{place}.{name}.{part}"] for part in Whitening._fields))
            for place, name in names
        }
        roles = {role: _part(tensors, role) for role in ("teacher", "student")}
        student = Projection.from_tensors(roles["student"]) if roles["student"] else None
        words = Words.from_tensors(_part(tensors, "words"))
        sizes = _part(tensors, "axes")
        axes = {name: int(sizes[name][0]) for name in whitenings if name in sizes}
        return cls(whitenings, Projection.from_tensors(roles["teacher"]), student, words, axes)


class FittedSpace(NamedTuple):
    """A space and the catalogue that it was fitted to."""

    space: Space
    residuals: Floats
    """[N, d] what the log says of each item beyond its views."""
    folds: Floats
    """[K, N, d] the learnt aspect, each without what one part of the users did."""
    metrics: dict[str, float]


def fit_space(views: Views, texts: Sequence[str], engagement: Engagement, config: EmbeddingConfig) -> FittedSpace:
    """Fits the space to a catalogue's views, to its texts from `word_texts` and to the log before the training end.

    Raises:
        UserError: the wanted dimension is larger than all views together.
    """
    sizes = {name: config.knowledge_axes if name == KNOWLEDGE else config.text_axes for name in views}
    whitenings = {
        name: Whitening.fit(view, size=sizes[name], strength=config.whitening) for name, view in views.items()
    }
    width = sum(whitening.axes.shape[1] for whitening in whitenings.values())
    if config.dimension > width:
        raise UserError(f"embedding.dimension: {config.dimension} is more than the {width} dimensions of all views")
    raw, full = whiten(views, whitenings)
    trained = train_projection(full, engagement, config.contrast, dimension=config.dimension, seed=config.seed)
    metrics = {"contrast_targets": float(len(engagement.targets))}
    student = None
    if KNOWLEDGE in views:
        points = trained.projection.project(full)
        catalogue = unit(points + trained.residuals)
        taught = teach(trained.projection, raw, points, catalogue, config.student, seed=config.seed)
        student = taught.student
        if taught.recall10 is not None:
            metrics["student_recall10"] = taught.recall10
    wanted = {KNOWLEDGE: config.aspects.knowledge, BRAND: config.aspects.brand}
    axes = {name: min(wanted[name], whitenings[name].axes.shape[1]) for name in views if wanted.get(name)}
    words = Words.fit(texts, config.aspects, seed=config.seed)
    space = Space(whitenings, trained.projection, student, words, axes)
    return FittedSpace(space, trained.residuals, _fit_folds(full, engagement, config), metrics)


def _fit_folds(full: Floats, engagement: Engagement, config: EmbeddingConfig) -> Floats:
    """Cross-fitting: fold k's vectors [K, N, d] are learnt from the users of all other folds."""
    folds = np.empty((config.contrast.num_folds, len(full), config.dimension), np.float32)
    for fold in range(len(folds)):
        others = Engagement(*(part[engagement.folds != fold] for part in engagement))
        trained = train_projection(full, others, config.contrast, dimension=config.dimension, seed=config.seed)
        folds[fold] = unit(trained.projection.project(full) + trained.residuals)
    return folds


def _part(tensors: dict[str, Floats], role: str) -> dict[str, Floats]:
    return {name.removeprefix(f"{role}."): values for name, values in tensors.items() if name.startswith(f"{role}.")}
