"""Where a store's blobs are, by key, in bounded memory and without sorting everything again for each addition.

Entries stand in sorted runs, each at least twice as long as the next: an addition is joined with those that are
shorter, so an entry moves a few times however often something is added, and there are few runs to search. A run that
has grown large lies in a file of this process alone, which is mapped and searched where it is: its pages are the
system's to keep or to drop.
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

Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.uint32]


class Place(NamedTuple):
    """Where one blob is noted."""

    query: int
    """Which of the keys that were asked for."""
    file: int
    row: int


class Index:
    """File and row by key; a key may have several."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, keys: Keys, file: int, rows: Numbers) -> None:
        """Adds entries of one file."""
        run = _Run(keys, np.full(len(keys), file, np.uint32), rows).sort()
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = run.join(self._runs.pop())
        self._runs.append(run)

    def find(self, keys: Keys) -> Iterator[Place]:
        """All places of the keys, in no order."""
        order = np.argsort(keys)
        ordered = keys[order]
        for run in self._runs:
            starts = np.searchsorted(run.keys, ordered)
            found = run.keys[np.minimum(starts, len(run) - 1)] == ordered
            for hit in np.flatnonzero(found).tolist():
                for place in range(starts[hit], np.searchsorted(run.keys, ordered[hit], "right")):
                    yield Place(int(order[hit]), int(run.files[place]), int(run.rows[place]))


class _Run:
    """Entries sorted by key, of which there is at least one."""

    def __init__(self, keys: Keys, files: Numbers, rows: Numbers) -> None:
        self.keys = keys
        self.files = files
        self.rows = rows

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, part: slice) -> "_Run":
        return _Run(self.keys[part], self.files[part], self.rows[part])

    def sort(self) -> "_Run":
        order = np.argsort(self.keys, kind="stable")
        return _Run(self.keys[order], self.files[order], self.rows[order])

    def join(self, other: "_Run") -> "_Run":
        """Both runs as one; on disk if that is large."""
        if len(self) + len(other) < _LARGE:
            return _concatenate(self, other).sort()
        return _write(_merge(self, other), len(self) + len(other))


def _concatenate(first: _Run, second: _Run) -> _Run:
    keys = np.concatenate([first.keys, second.keys])
    return _Run(keys, np.concatenate([first.files, second.files]), np.concatenate([first.rows, second.rows]))


def _merge(first: _Run, second: _Run) -> Iterator[_Run]:
    """The entries of both in order, part by part; keys are digests, so equally many of each lie in a part."""
    longer, shorter = (first, second) if len(first) > len(second) else (second, first)
    taken = 0
    for start in range(0, len(longer), _LARGE):
        part = longer[start : start + _LARGE]
        is_last = start + _LARGE >= len(longer)
        end = len(shorter) if is_last else int(np.searchsorted(shorter.keys, part.keys[-1], "right"))
        yield _concatenate(part, shorter[taken:end]).sort()
        taken = end


def _write(parts: Iterator[_Run], count: int) -> _Run:
    """The parts as one run in a file that ends with this process."""
    with TemporaryFile() as file:
        written = 0
        for part in parts:
            os.pwrite(file.fileno(), part.keys.tobytes(), 8 * written)
            os.pwrite(file.fileno(), part.files.tobytes(), 8 * count + 4 * written)
            os.pwrite(file.fileno(), part.rows.tobytes(), 12 * count + 4 * written)
            written += len(part)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    keys = np.frombuffer(mapped, np.uint64, count)
    files, rows = np.split(np.frombuffer(mapped, np.uint32, 2 * count, keys.nbytes), 2)
    return _Run(keys, files, rows)
