"""What goes with what: vectors of what an item is, and of what it is used with, beside the item embeddings.

A nail's complements are near the kind of a hammer, whatever the log says of either.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

COMPLEMENTS_FILE = "complements.safetensors"


class ComplementVectors(NamedTuple):
    """Rows of unit norm, or of zeros where nothing is known; in half precision in the file."""

    kinds: npt.NDArray[np.floating[Any]]
    """What each item is, [I, X]."""
    complements: npt.NDArray[np.floating[Any]]
    """What it is used with: the mean of its complements, [I, X]."""


def write_complements(item_embeddings: Path, vectors: ComplementVectors) -> None:
    """Writes the vectors of the items of an artifact, in the order of its table."""
    tensors = {name: matrix.astype(np.float16) for name, matrix in vectors._asdict().items()}
    save_file(tensors, item_embeddings / COMPLEMENTS_FILE)


def read_complements(item_embeddings: Path) -> ComplementVectors | None:
    """Reads the vectors in the order of the artifact's table; None where no complement is known."""
    path = item_embeddings / COMPLEMENTS_FILE
    return ComplementVectors(**load_file(path)) if path.is_file() else None
