"""Item vectors as they are stored, served and trained on: half floats (docs/adr/0013)."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contracts.errors import UserError

Halves = npt.NDArray[np.float16]

VECTOR_DTYPE: Final = np.dtype("<f2")
"""Half the bytes of float32, for errors of about 1e-4 in a cosine."""


def to_halves(vectors: npt.NDArray[Any]) -> Halves:
    """Vectors of any float type as half floats.

    Raises:
        UserError: a number is not finite, or too large.
    """
    if vectors.dtype == VECTOR_DTYPE:
        return vectors
    limit = np.finfo(VECTOR_DTYPE).max
    # A NaN fails the comparison as well.
    if not (np.abs(vectors) <= limit).all():
        raise UserError(f"an item vector holds a number beyond +-{limit:g}, or none; normalise the embeddings")
    return vectors.astype(VECTOR_DTYPE)
