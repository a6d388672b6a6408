"""Matrices that may be larger than the memory."""

import numpy as np
import pytest

from contracts.errors import UserError
from models.knowledge.embedding.mapped_matrices import BLOCK_ROWS, allocate_matrix, iterate_row_blocks


def test_a_large_matrix_lies_in_a_file_and_holds_what_is_written() -> None:
    large, small = allocate_matrix(70_000, 256), allocate_matrix(10, 256)
    assert isinstance(large, np.memmap)
    assert not isinstance(small, np.memmap)
    large[-1] = 3
    assert large[-1].sum() == 3 * 256
    assert not large[0].any()


def test_blocks_hold_every_row_once() -> None:
    for num_rows in (0, 1, BLOCK_ROWS, 2 * BLOCK_ROWS + 5):
        rows = [row for block in iterate_row_blocks(num_rows) for row in range(num_rows)[block]]
        assert rows == list(range(num_rows))


def test_a_disk_without_room_is_said_before_anything_is_written() -> None:
    with pytest.raises(UserError, match=r"has no room for \d+ MiB .* set TMPDIR"):
        allocate_matrix(1 << 40, 1 << 10)
