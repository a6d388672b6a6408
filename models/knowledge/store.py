"""An append-only store of blobs by key that many processes may write at once, on any file system.

Each process that puts something owns one pair of files, which nobody else ever writes: `<name>.data` holds the blobs,
`<name>.idx` one fixed-width entry per blob, written after it. So there are no locks (NFS and other shared volumes are
fine), a killed process leaves at most a torn tail that no entry points at, and every entry carries a checksum of its
blob: what was not wholly written is not there. Memory holds neither the blobs nor, when it grows large, the index.
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
from models.knowledge.index import Index

_ENTRY: Final = np.dtype([("key", "<u8"), ("offset", "<u8"), ("length", "<u4"), ("checksum", "<u4")])
_MAX_RECENT: Final = 8192
"""Own entries in a dictionary; beyond, they join the index."""
_MAX_READ: Final = 2**16
"""Entries of another process that are read at once."""

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
        self._index = Index()
        self.refresh()

    def refresh(self) -> None:
        """Takes note of what other processes stored since."""
        for name in self._listed():
            while len(entries := self._read_new(name)):
                known = self._counts.get(name, 0)
                if not known:
                    self._names.append(name)
                self._counts[name] = known + len(entries)
                rows = np.arange(known, known + len(entries), dtype=np.uint32)
                self._index.add(entries["key"], self._names.index(name), rows)

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
        """Number of entries."""
        return len(self._index) + len(self._recent)

    def put(self, key: str, blob: bytes) -> None:
        """Stores a blob; once this returns, a killed process has not lost it."""
        if self._own is None:
            self._own = _Writer(self._folder)
            self._names.append(self._own.name)
        number = int(key, 16)
        self._recent[number] = self._own.append(number, blob)
        if len(self._recent) > _MAX_RECENT:
            self._settle_recent()

    def close(self) -> None:
        """Closes the own files."""
        if self._own:
            self._own.close()

    def _listed(self) -> list[str]:
        own = self._own.name if self._own else ""
        return sorted(path.stem for path in self._folder.glob("*.idx") if path.stem != own)

    def _read_new(self, name: str) -> Entries:
        """Some of the entries that are not known yet; a torn last entry is left for later."""
        known = self._counts.get(name, 0)
        path = self._folder / f"{name}.idx"
        count = min(path.stat().st_size // _ENTRY.itemsize - known, _MAX_READ)
        if count <= 0:
            return np.empty(0, _ENTRY)
        return np.fromfile(path, _ENTRY, count, offset=known * _ENTRY.itemsize)

    def _settle_recent(self) -> None:
        assert self._own is not None
        count = len(self._recent)
        keys, rows = np.fromiter(self._recent, np.uint64, count), np.fromiter(self._recent.values(), np.uint32, count)
        self._index.add(keys, self._names.index(self._own.name), rows)
        self._recent.clear()

    def _places(self, keys: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
        """File -> (key, row of its index) of all that may hold one of the keys."""
        places: dict[str, list[tuple[str, int]]] = defaultdict(list)
        numbers = np.array([int(key, 16) for key in keys], np.uint64)
        for place in self._index.find(numbers):
            places[self._names[place.file]].append((keys[place.query], place.row))
        if self._own and self._recent:
            for key, number in zip(keys, numbers.tolist(), strict=True):
                if number in self._recent:
                    places[self._own.name].append((key, self._recent[number]))
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

    def append(self, key: int, blob: bytes) -> int:
        """Writes blob, then entry; returns the entry's row."""
        offset, checksum = self._data.tell(), zlib.crc32(blob)
        _write(self._data, blob)
        _write(self._index, np.array([(key, offset, len(blob), checksum)], _ENTRY).tobytes())
        self._count += 1
        return self._count - 1

    def close(self) -> None:
        self._data.close()
        self._index.close()


def _write(stream: BinaryIO, content: bytes) -> None:
    written = 0
    while written < len(content):  # an unbuffered write may be short
        written += stream.write(content[written:])
