"""Item vectors as they are stored, served and trained on: half floats (docs/adr/0013)."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contracts.array_types import HalfArray
from contracts.errors import UserError

VECTOR_DTYPE: Final = np.dtype("<f2")
"""Half the bytes of float32, for errors of about 1e-4 in a cosine."""


def convert_to_half(vectors: npt.NDArray[Any]) -> HalfArray:
    """Vectors of any float type as half floats.

    Raises:
        UserError: a number is not finite, or too large.
    """
    if vectors.dtype == VECTOR_DTYPE:
        return vectors
    largest_value = np.finfo(VECTOR_DTYPE).max
    # A NaN fails the comparison as well.
    if not (np.abs(vectors) <= largest_value).all():
        raise UserError(
            f"an item vector holds a number beyond +-{largest_value:g}, or none; normalize the embeddings"
        )
    return vectors.astype(VECTOR_DTYPE)
