"""What goes with what: vectors of what an item is, and of what it is used with.

A nail's complements are near the kind of a hammer, whatever the log says of either. The behavior model reads
them as votes of a history for items of other kinds (`models/behavior/decoding/complement_votes.py`).
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from contracts.array_types import FloatArray
from contracts.artifacts import Artifact
from contracts.embedding_aspects import COMPLEMENTS_FILE
from models.knowledge.embedding.item_views import encode_claims, join_knowledge
from models.knowledge.embedding.text_encoder import TextEncoder


class ComplementVectors(NamedTuple):
    """Rows of unit norm, or of zeros where nothing is known."""

    kinds: FloatArray
    """What each item is, [I, X]."""
    complements: FloatArray
    """What it is used with: the mean of its complements, [I, X]."""


def encode_complements(
    items: pl.DataFrame, knowledge: pl.DataFrame, encoder: TextEncoder
) -> ComplementVectors:
    """Encodes kinds and complements of a catalogue (table ITEMS) by table KNOWLEDGE."""
    item_knowledge = join_knowledge(items, knowledge)
    return ComplementVectors(
        kinds=encode_claims(item_knowledge, ("summary",), encoder),
        complements=encode_claims(item_knowledge, ("complements",), encoder),
    )


def write_complements(artifact: Artifact, vectors: ComplementVectors) -> None:
    """Writes them into an item embeddings artifact, if any complement is known."""
    num_known = np.count_nonzero(vectors.complements.any(axis=1))
    artifact.metrics["complement_coverage"] = num_known / max(len(vectors.complements), 1)
    if num_known:
        tensors = {name: matrix.astype(np.float16) for name, matrix in vectors._asdict().items()}
        save_file(tensors, artifact.path / COMPLEMENTS_FILE)
