"""A fixed map that makes the cosines of a text encoder's raw vectors tell more.

Such vectors share a common direction and lie in few dimensions, so all cosines look alike. The lens takes the
mean off, divides each principal direction by the square root of its spread and keeps the leading directions.
That is half of a whitening: a whole one would blow up noise.

Source: Su et al., "Whitening sentence representations" (arXiv 2103.15316), halved.
"""

import numpy as np

from contracts.array_types import BoolArray, FloatArray

NUM_DIRECTIONS = 128
_LEAST_SPREAD = 1e-6


def whiten_vectors(
    vectors: FloatArray, is_fitted: BoolArray, num_directions: int = NUM_DIRECTIONS
) -> FloatArray:
    """Looks at vectors [N, D] through the lens; unit vectors [N, directions].

    Args:
        vectors: of all items; none is zero.
        is_fitted: the items that the lens is fitted on, [N]: those that training saw.
        num_directions: leading directions to keep.
    """
    training_vectors = vectors[is_fitted].astype(np.float64)
    mean_vector = training_vectors.mean(0)
    offsets = training_vectors - mean_vector
    spread, directions = np.linalg.eigh(offsets.T @ offsets / len(offsets))
    spread, directions = spread[::-1][:num_directions], directions[:, ::-1][:, :num_directions]
    # The spread is a variance: its fourth root is the square root of a standard deviation.
    scaled_directions = directions / np.maximum(spread, _LEAST_SPREAD * spread[0]) ** 0.25
    seen_vectors = (vectors - mean_vector) @ scaled_directions
    seen_lengths = np.linalg.norm(seen_vectors, axis=1, keepdims=True)
    return np.asarray(seen_vectors / np.maximum(seen_lengths, 1e-6), np.float32)
