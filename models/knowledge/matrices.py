"""Matrices of a row per item that may be larger than the memory, and ways through them."""

from collections.abc import Iterator
from tempfile import TemporaryFile

import numpy as np

from models.knowledge.encoder import Floats

BLOCK = 4096
"""Rows that are worked on at once."""
_LARGE_BYTES = 64 << 20


def new_matrix(num_rows: int, num_columns: int) -> Floats:
    """An empty matrix; a large one lies in a file without a name in the system's temporary folder (`TMPDIR`).

    Its pages in memory are the system's to drop, and the file goes with the matrix.
    """
    shape = (num_rows, num_columns)
    if 4 * num_rows * num_columns < _LARGE_BYTES:
        return np.empty(shape, np.float32)
    with TemporaryFile() as file:
        return np.memmap(file, np.float32, mode="w+", shape=shape)


def blocks(num_rows: int) -> Iterator[slice]:
    """All rows, some at a time."""
    for start in range(0, num_rows, BLOCK):
        yield slice(start, min(start + BLOCK, num_rows))
