"""Where a store's blobs are, by key, in bounded memory and without sorting everything again for each addition.

Entries stand in sorted runs. Runs of similar size are merged, so an entry is sorted a few times however often something
is added. A run that has grown large goes to a file of this process alone, which is mapped and searched where it lies:
its pages are the system's to keep or to drop.
"""

import mmap
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

_LARGE: Final = 2**16
"""Entries (16 bytes each) of a run that may go to disk."""
_SHARE: Final = 1 / 64
"""Share of all entries that it must hold as well: few files, whatever the size."""

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
        self._small: list[_Run] = []
        """In memory; each at least twice as long as the next."""
        self._large: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run.keys) for run in (*self._large, *self._small))

    def add(self, keys: Keys, file: int, rows: Numbers) -> None:
        """Adds entries of one file."""
        run = _Run(keys, np.full(len(keys), file, np.uint32), rows).sort()
        while self._small and len(self._small[-1].keys) < 2 * len(run.keys):
            run = run.join(self._small.pop())
        if len(run.keys) >= max(_LARGE, _SHARE * len(self)):
            self._large.append(run.spill())
        else:
            self._small.append(run)

    def find(self, keys: Keys) -> Iterator[Place]:
        """All places of the keys, in no order."""
        order = np.argsort(keys)
        ordered = keys[order]
        for run in (*self._large, *self._small):
            left, right = np.searchsorted(run.keys, ordered, "left"), np.searchsorted(run.keys, ordered, "right")
            for hit in np.flatnonzero(right > left).tolist():
                for place in range(left[hit], right[hit]):
                    yield Place(int(order[hit]), int(run.files[place]), int(run.rows[place]))


class _Run(NamedTuple):
    keys: Keys
    files: Numbers
    rows: Numbers

    def sort(self) -> "_Run":
        order = np.argsort(self.keys, kind="stable")
        return _Run(self.keys[order], self.files[order], self.rows[order])

    def join(self, other: "_Run") -> "_Run":
        keys, files, rows = (np.concatenate([self[column], other[column]]) for column in range(3))
        return _Run(keys, files, rows).sort()

    def spill(self) -> "_Run":
        """The same run in a file that ends with this process."""
        with TemporaryFile() as file:
            for column in self:
                file.write(column.tobytes())
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        count = len(self.keys)
        keys = np.frombuffer(mapped, np.uint64, count)
        files, rows = np.split(np.frombuffer(mapped, np.uint32, 2 * count, keys.nbytes), 2)
        return _Run(keys, files, rows)
