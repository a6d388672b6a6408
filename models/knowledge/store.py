"""An append-only store of blobs by key that many processes may write at once, on any file system.

Each process that puts something owns one pair of files, which nobody else ever writes: `<name>.data` holds the blobs,
`<name>.idx` one fixed-width entry per blob, written after it. So there are no locks (NFS and other shared volumes are
fine), a killed process leaves at most a torn tail that no entry points at, and every entry carries a checksum of its
blob: what was not wholly written is not there. Of n entries 16 n bytes are kept in memory, never the blobs.
"""

import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from contracts.errors import UserError

_ENTRY: Final = np.dtype([("key", "<u8"), ("offset", "<u8"), ("length", "<u4"), ("checksum", "<u4")])
_MAX_RECENT: Final = 20_000
"""Own entries in a dictionary; beyond, they join the sorted arrays."""

Entries = npt.NDArray[Any]


class Store:
    """Blobs by key (16 hex digits)."""

    def __init__(self, folder: Path) -> None:
        """Reads the index of all that was stored so far.

        Raises:
            UserError: the folder cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} is not usable as a cache ({error}); name another folder.") from error
        self._folder = folder
        self._own: _Writer | None = None
        self._names: list[str] = []
        self._counts: dict[str, int] = {}
        self._recent: dict[int, int] = {}
        self._keys = np.empty(0, np.uint64)
        self._files = np.empty(0, np.uint32)
        self._rows = np.empty(0, np.uint32)
        self.refresh()

    def refresh(self) -> None:
        """Takes note of what other processes stored since."""
        fresh = [(name, *found) for name in self._listed() if len((found := self._read_new(name))[1])]
        if fresh:
            self._merge(fresh)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The blobs that are there and whole, by key.

        Of several blobs of one key (two processes may put at once) the least is given: all readers agree on one.
        """
        found: dict[str, bytes] = {}
        for name, wanted in self._places(keys).items():
            for key, blob in self._read(name, wanted):
                found[key] = min(blob, found.get(key, blob))
        return found

    def __contains__(self, key: str) -> bool:
        return bool(self._places([key]))

    def __len__(self) -> int:
        """Number of entries; a blob has one for each of its keys."""
        return len(self._keys) + len(self._recent)

    def put(self, keys: Sequence[str], blob: bytes) -> None:
        """Stores a blob under one or several keys; once this returns, a killed process has not lost it."""
        if self._own is None:
            self._own = _Writer(self._folder)
            self._names.append(self._own.name)
        first = self._own.append([int(key, 16) for key in keys], blob)
        self._recent |= {int(key, 16): first + number for number, key in enumerate(keys)}
        if len(self._recent) > _MAX_RECENT:
            self._settle_recent()

    def close(self) -> None:
        """Closes the own files."""
        if self._own:
            self._own.close()

    def _listed(self) -> list[str]:
        own = self._own.name if self._own else ""
        return sorted(path.stem for path in self._folder.glob("*.idx") if path.stem != own)

    def _read_new(self, name: str) -> tuple[int, Entries]:
        """Number of entries known before, and those that came since; a torn last entry is left for later."""
        known = self._counts.get(name, 0)
        path = self._folder / f"{name}.idx"
        count = path.stat().st_size // _ENTRY.itemsize - known
        if count <= 0:
            return known, np.empty(0, _ENTRY)
        return known, np.fromfile(path, _ENTRY, count, offset=known * _ENTRY.itemsize)

    def _merge(self, fresh: Sequence[tuple[str, int, Entries]]) -> None:
        for name, known, entries in fresh:
            if name not in self._names:
                self._names.append(name)
            self._counts[name] = known + len(entries)
        self._add(
            [entries["key"] for _, _, entries in fresh],
            [np.full(len(entries), self._names.index(name), np.uint32) for name, _, entries in fresh],
            [np.arange(known, known + len(entries), dtype=np.uint32) for _, known, entries in fresh],
        )

    def _settle_recent(self) -> None:
        assert self._own is not None
        number, count = self._names.index(self._own.name), len(self._recent)
        keys, rows = np.fromiter(self._recent, np.uint64, count), np.fromiter(self._recent.values(), np.uint32, count)
        self._add([keys], [np.full(count, number, np.uint32)], [rows])
        self._recent.clear()

    def _add(self, keys: Sequence[Entries], files: Sequence[Entries], rows: Sequence[Entries]) -> None:
        all_keys = np.concatenate([self._keys, *keys])
        order = np.argsort(all_keys, kind="stable")
        self._keys, self._files = all_keys[order], np.concatenate([self._files, *files])[order]
        self._rows = np.concatenate([self._rows, *rows])[order]

    def _places(self, keys: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
        """File -> (key, row of its index) of all that may hold one of the keys."""
        places: dict[str, list[tuple[str, int]]] = defaultdict(list)
        numbers = np.array([int(key, 16) for key in keys], np.uint64)
        left, right = np.searchsorted(self._keys, numbers, "left"), np.searchsorted(self._keys, numbers, "right")
        for key, number, start, end in zip(keys, numbers.tolist(), left.tolist(), right.tolist(), strict=True):
            if self._own and number in self._recent:
                places[self._own.name].append((key, self._recent[number]))
            for place in range(start, end):
                places[self._names[self._files[place]]].append((key, int(self._rows[place])))
        return places

    def _read(self, name: str, wanted: Sequence[tuple[str, int]]) -> Iterator[tuple[str, bytes]]:
        with (self._folder / f"{name}.idx").open("rb") as index, (self._folder / f"{name}.data").open("rb") as data:
            for key, row in wanted:
                raw = os.pread(index.fileno(), _ENTRY.itemsize, row * _ENTRY.itemsize)
                entry = np.frombuffer(raw, _ENTRY)[0]
                blob = os.pread(data.fileno(), int(entry["length"]), int(entry["offset"]))
                if zlib.crc32(blob) == entry["checksum"] and len(blob) == entry["length"]:
                    yield key, blob


class _Writer:
    """The pair of files that this process alone writes."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid4().hex
        self._data: BinaryIO = (folder / f"{self.name}.data").open("xb", buffering=0)
        self._index: BinaryIO = (folder / f"{self.name}.idx").open("xb", buffering=0)
        self._count = 0

    def append(self, keys: Sequence[int], blob: bytes) -> int:
        """Writes blob, then entries; returns the row of the first."""
        offset, checksum = self._data.tell(), zlib.crc32(blob)
        _write(self._data, blob)
        entries = np.array([(key, offset, len(blob), checksum) for key in keys], _ENTRY)
        _write(self._index, entries.tobytes())
        self._count += len(keys)
        return self._count - len(keys)

    def close(self) -> None:
        self._data.close()
        self._index.close()


def _write(stream: BinaryIO, content: bytes) -> None:
    written = 0
    while written < len(content):  # an unbuffered write may be short
        written += stream.write(content[written:])
