"""The array types that all rooms share, named by what they hold and how wide it is."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
"""Single precision: vectors, scores, confidences."""
DoubleArray = npt.NDArray[np.float64]
"""Double precision: sums, statistics, closed forms."""
HalfArray = npt.NDArray[np.float16]
"""Half precision: vectors as they are stored and sent."""
IntArray = npt.NDArray[np.int64]
"""Row numbers, counts, codes."""
Int32Array = npt.NDArray[np.int32]
"""Row numbers where memory counts."""
BoolArray = npt.NDArray[np.bool_]
"""Masks."""
