"""Matrices of a row per item that may be larger than the memory, and how to walk through them."""

import os
import tempfile
from collections.abc import Iterator

import numpy as np

from contracts.array_types import FloatArray
from contracts.errors import UserError

BLOCK_ROWS = 4096
"""Rows that are worked on at once."""
_MAX_BYTES_IN_MEMORY = 64 << 20


def allocate_matrix(num_rows: int, num_columns: int) -> FloatArray:
    """Returns an empty matrix; a large one lies in a nameless file in the temporary folder (`TMPDIR`).

    The system may drop its pages from memory. The file goes with the matrix.

    Raises:
        UserError: The folder has no room for it.
    """
    shape, num_bytes = (num_rows, num_columns), 4 * num_rows * num_columns
    if num_bytes <= _MAX_BYTES_IN_MEMORY:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        try:
            # Room is taken now: a full disk would end the process at the first write, without a word.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise UserError(
                f"{folder} has no room for {num_bytes >> 20} MiB ({error.strerror}); free some or set TMPDIR"
            ) from error
        return np.memmap(file, np.float32, mode="w+", shape=shape)


def iterate_row_blocks(num_rows: int) -> Iterator[slice]:
    """Yields slices that cover all rows, some at a time."""
    for start in range(0, num_rows, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, num_rows))
