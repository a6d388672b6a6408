"""Matrices of a row per item that may be larger than the memory, and ways through them."""

import os
import tempfile
from collections.abc import Iterator

import numpy as np

from contracts.errors import UserError
from models.knowledge.encoder import Floats

BLOCK = 4096
"""Rows that are worked on at once."""
_LARGE_BYTES = 64 << 20


def new_matrix(num_rows: int, num_columns: int) -> Floats:
    """An empty matrix; a large one lies in a file without a name in the system's temporary folder (`TMPDIR`).

    Its pages in memory are the system's to drop, and the file goes with the matrix.

    Raises:
        UserError: the folder has no room for it.
    """
    shape, num_bytes = (num_rows, num_columns), 4 * num_rows * num_columns
    if num_bytes <= _LARGE_BYTES:
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


def blocks(num_rows: int) -> Iterator[slice]:
    """All rows, some at a time."""
    for start in range(0, num_rows, BLOCK):
        yield slice(start, min(start + BLOCK, num_rows))
