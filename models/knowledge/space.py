"""The embedding space: how raw-text and knowledge vectors become one short vector per item.

Text encoders put all texts of a shop into a narrow cone: a common mean and a few strong directions hide what tells
products apart. So both parts are centred, summed by weight, rotated onto the principal axes, cut to the wanted length,
and the axes are evened out a little (partial whitening, as in Su et al. 2021, "Whitening sentence representations").
The measured effect stands in this room's README.
"""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from contracts.errors import UserError
from models.knowledge.config import EmbeddingConfig
from models.knowledge.encoder import Floats

_SHRINKAGE = 10.0
"""Items' worth of doubt in a mean: keeps a catalogue of one item, or of equal items, from being centred to nothing."""
_MIN_VARIANCE = 1e-4
"""Axes with a smaller share of the largest variance are not raised further: they are noise."""


class Space(NamedTuple):
    """Maps encoder vectors (D dimensions) to item vectors (d dimensions)."""

    raw_mean: Floats
    """[D] subtracted from raw-text vectors."""
    known_mean: Floats
    """[D] subtracted from knowledge vectors."""
    axes: Floats
    """[D, d] principal axes, scaled by the whitening."""

    def save(self, path: Path) -> None:
        """Writes the maps as safetensors."""
        save_file(self._asdict(), path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        return cls(**load_file(path))


def fit_space(raw: Floats, known: Floats, config: EmbeddingConfig) -> Space:
    """Fits the space to a catalogue's vectors [N, D]; rows of `known` that are zero (nothing known) don't count.

    Raises:
        UserError: the wanted dimension is larger than the encoder's.
    """
    if config.dimension > raw.shape[1]:
        raise UserError(
            f"embedding.dimension: {config.dimension} is more than the {raw.shape[1]} dimensions of '{config.encoder}'"
        )
    raw_mean, known_mean = _shrunken_mean(raw), _shrunken_mean(known[known.any(axis=1)])
    centred = _combine(raw - raw_mean, _centre_known(known, known_mean), config.knowledge_weight)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    variances, axes = variances[::-1][: config.dimension], axes[:, ::-1][:, : config.dimension]
    scale = np.maximum(variances / max(float(variances[0]), 1e-12), _MIN_VARIANCE) ** -config.whitening
    return Space(raw_mean, known_mean, np.ascontiguousarray(axes * scale, dtype=np.float32))


def project(raw: Floats, known: Floats, space: Space, *, knowledge_weight: float) -> Floats:
    """Item vectors [N, d] of unit norm from raw-text and knowledge vectors [N, D]."""
    return unit(_combine(raw - space.raw_mean, _centre_known(known, space.known_mean), knowledge_weight) @ space.axes)


def unit(vectors: Floats) -> Floats:
    """Rows scaled to unit norm; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def _combine(raw: Floats, known: Floats, weight: float) -> Floats:
    return np.asarray((1 - weight) * unit(raw) + weight * unit(known), dtype=np.float32)


def _centre_known(known: Floats, mean: Floats) -> Floats:
    """Where nothing is known there is nothing to centre: the raw text speaks alone."""
    return np.asarray(np.where(known.any(axis=1, keepdims=True), known - mean, 0.0), dtype=np.float32)


def _shrunken_mean(vectors: Floats) -> Floats:
    return np.asarray(vectors.sum(axis=0) / (len(vectors) + _SHRINKAGE), dtype=np.float32)
