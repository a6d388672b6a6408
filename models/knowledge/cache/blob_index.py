"""Where a store's blobs are, by key, in bounded memory and without sorting everything for each addition.

Entries stand in sorted runs, each at least twice as long as the next (a log-structured merge). An addition is
joined with the runs that are shorter. So an entry moves a few times however often something is added, and
there are few runs to search. A run that has grown large lies in a file of this process alone, which is mapped
and searched where it is: the system may drop its pages.
"""

import mmap
import os
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

_LARGE: Final = 2**16
"""Entries (16 bytes each) of a run that lies on disk; also how many are joined at once."""

KeyArray = npt.NDArray[np.uint64]
NumberArray = npt.NDArray[np.uint32]


class BlobPlace(NamedTuple):
    """Where one blob is noted."""

    query_number: int
    """Which of the keys that were asked for."""
    file_number: int
    row: int


class BlobIndex:
    """File and row by key; a key may have several."""

    def __init__(self) -> None:
        self._runs: list[_SortedRun] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add_entries(self, keys: KeyArray, file: int, rows: NumberArray) -> None:
        """Adds entries of one file."""
        new_run = _SortedRun(keys, np.full(len(keys), file, np.uint32), rows).sort_entries()
        # Keeps each run at least twice as long as the next, so there are at most log2(entries) runs.
        while self._runs and len(self._runs[-1]) < 2 * len(new_run):
            new_run = new_run.join_run(self._runs.pop())
        self._runs.append(new_run)

    def find_blob_places(self, keys: KeyArray) -> Iterator[BlobPlace]:
        """All places of the keys, in no order."""
        # Sorted queries walk through a mapped run from front to back, page by page.
        key_order = np.argsort(keys)
        sorted_keys = keys[key_order]
        for run in self._runs:
            first_rows = np.searchsorted(run.keys, sorted_keys)
            is_hit = run.keys[np.minimum(first_rows, len(run) - 1)] == sorted_keys
            for hit_number in np.flatnonzero(is_hit).tolist():
                for entry_number in range(
                    first_rows[hit_number], np.searchsorted(run.keys, sorted_keys[hit_number], "right")
                ):
                    yield BlobPlace(
                        int(key_order[hit_number]), int(run.files[entry_number]), int(run.rows[entry_number])
                    )


class _SortedRun:
    """Entries sorted by key, of which there is at least one."""

    def __init__(self, keys: KeyArray, files: NumberArray, rows: NumberArray) -> None:
        self.keys = keys
        self.files = files
        self.rows = rows

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, entry_slice: slice) -> "_SortedRun":
        return _SortedRun(self.keys[entry_slice], self.files[entry_slice], self.rows[entry_slice])

    def sort_entries(self) -> "_SortedRun":
        key_order = np.argsort(self.keys, kind="stable")
        return _SortedRun(self.keys[key_order], self.files[key_order], self.rows[key_order])

    def join_run(self, other: "_SortedRun") -> "_SortedRun":
        """Both runs as one; on disk if that is large."""
        if len(self) + len(other) < _LARGE:
            return _concatenate_runs(self, other).sort_entries()
        return _write_mapped_run(_merge_sorted_runs(self, other), len(self) + len(other))


def _concatenate_runs(first: _SortedRun, second: _SortedRun) -> _SortedRun:
    keys = np.concatenate([first.keys, second.keys])
    return _SortedRun(
        keys, np.concatenate([first.files, second.files]), np.concatenate([first.rows, second.rows])
    )


def _merge_sorted_runs(first: _SortedRun, second: _SortedRun) -> Iterator[_SortedRun]:
    """The entries of both in order, part by part; keys are digests, so equally many of each lie in a part."""
    longer_run, shorter_run = (first, second) if len(first) > len(second) else (second, first)
    num_taken = 0
    for longer_start in range(0, len(longer_run), _LARGE):
        run_part = longer_run[longer_start : longer_start + _LARGE]
        is_last = longer_start + _LARGE >= len(longer_run)
        shorter_end = (
            len(shorter_run)
            if is_last
            else int(np.searchsorted(shorter_run.keys, run_part.keys[-1], "right"))
        )
        yield _concatenate_runs(run_part, shorter_run[num_taken:shorter_end]).sort_entries()
        num_taken = shorter_end


def _write_mapped_run(run_parts: Iterator[_SortedRun], num_entries: int) -> _SortedRun:
    """The parts as one run in a file that ends with this process."""
    with TemporaryFile() as run_file:
        num_written = 0
        for run_part in run_parts:
            os.pwrite(run_file.fileno(), run_part.keys.tobytes(), 8 * num_written)
            os.pwrite(run_file.fileno(), run_part.files.tobytes(), 8 * num_entries + 4 * num_written)
            os.pwrite(run_file.fileno(), run_part.rows.tobytes(), 12 * num_entries + 4 * num_written)
            num_written += len(run_part)
        mapped_file = mmap.mmap(run_file.fileno(), 0, access=mmap.ACCESS_READ)
    key_numbers = np.frombuffer(mapped_file, np.uint64, num_entries)
    file_numbers, row_numbers = np.split(
        np.frombuffer(mapped_file, np.uint32, 2 * num_entries, key_numbers.nbytes), 2
    )
    return _SortedRun(key_numbers, file_numbers, row_numbers)
