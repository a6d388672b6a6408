"""An append-only store of blobs by key that many processes may write at once, on any file system.

Each process that puts something owns one pair of files, which nobody else ever writes. `<name>.data` holds
the blobs, `<name>.idx` one fixed-width entry per blob, written after it. So there are no locks, and NFS and
other shared volumes are fine. A killed process leaves at most a torn tail that no entry points at. Every
entry carries a checksum of its blob: what was not wholly written is not there. Memory holds neither the blobs
nor, when it grows large, the index.
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
from models.knowledge.cache.blob_index import BlobIndex

_ENTRY: Final = np.dtype([("key", "<u8"), ("offset", "<u8"), ("length", "<u4"), ("checksum", "<u4")])
_MAX_RECENT: Final = 8192
"""Own entries in a dictionary; beyond, they join the index."""
_MAX_READ: Final = 2**16
"""Entries of another process that are read at once."""

EntryArray = npt.NDArray[Any]


class BlobStore:
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
        self._own_files: _BlobFiles | None = None
        self._file_names: list[str] = []
        self._entry_counts: dict[str, int] = {}
        self._recent_rows: dict[int, int] = {}
        self._index = BlobIndex()
        self.refresh_index()

    def refresh_index(self) -> None:
        """Takes note of what other processes stored since."""
        for file_name in self._list_foreign_files():
            while len(new_entries := self._read_new_entries(file_name)):
                num_known = self._entry_counts.get(file_name, 0)
                if not num_known:
                    self._file_names.append(file_name)
                self._entry_counts[file_name] = num_known + len(new_entries)
                row_numbers = np.arange(num_known, num_known + len(new_entries), dtype=np.uint32)
                self._index.add_entries(new_entries["key"], self._file_names.index(file_name), row_numbers)

    def get_blobs(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The blobs that are there and whole, by key.

        Of several blobs of one key (two processes may put at once) all readers get the same one: the least.
        """
        found_blobs: dict[str, bytes] = {}
        for file_name, key_rows in self._find_rows_by_file(keys).items():
            for key, blob in self._read_whole_blobs(file_name, key_rows):
                found_blobs[key] = min(blob, found_blobs.get(key, blob))
        return found_blobs

    def __contains__(self, key: str) -> bool:
        return bool(self._find_rows_by_file([key]))

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._index) + len(self._recent_rows)

    def put_blob(self, key: str, blob: bytes) -> None:
        """Stores a blob; once this returns, a killed process has not lost it."""
        if self._own_files is None:
            self._own_files = _BlobFiles(self._folder)
            self._file_names.append(self._own_files.name)
        key_number = int(key, 16)
        self._recent_rows[key_number] = self._own_files.append_blob(key_number, blob)
        if len(self._recent_rows) > _MAX_RECENT:
            self._index_recent_rows()

    def close(self) -> None:
        """Closes the own files."""
        if self._own_files:
            self._own_files.close()

    def _list_foreign_files(self) -> list[str]:
        own_name = self._own_files.name if self._own_files else ""
        names = (index_path.stem for index_path in self._folder.glob("*.idx"))
        return sorted(name for name in names if name != own_name)

    def _read_new_entries(self, name: str) -> EntryArray:
        """Some of the entries that are not known yet; a torn last entry is left for later."""
        num_known = self._entry_counts.get(name, 0)
        index_path = self._folder / f"{name}.idx"
        num_new = min(index_path.stat().st_size // _ENTRY.itemsize - num_known, _MAX_READ)
        if num_new <= 0:
            return np.empty(0, _ENTRY)
        return np.fromfile(index_path, _ENTRY, num_new, offset=num_known * _ENTRY.itemsize)

    def _index_recent_rows(self) -> None:
        assert self._own_files is not None
        num_recent = len(self._recent_rows)
        key_numbers = np.fromiter(self._recent_rows, np.uint64, num_recent)
        row_numbers = np.fromiter(self._recent_rows.values(), np.uint32, num_recent)
        self._index.add_entries(key_numbers, self._file_names.index(self._own_files.name), row_numbers)
        self._recent_rows.clear()

    def _find_rows_by_file(self, keys: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
        """File -> (key, row of its index) of all that may hold one of the keys."""
        rows_by_file: dict[str, list[tuple[str, int]]] = defaultdict(list)
        key_numbers = np.array([int(key, 16) for key in keys], np.uint64)
        for blob_place in self._index.find_blob_places(key_numbers):
            rows_by_file[self._file_names[blob_place.file_number]].append(
                (keys[blob_place.query_number], blob_place.row)
            )
        if self._own_files and self._recent_rows:
            for key, key_number in zip(keys, key_numbers.tolist(), strict=True):
                if key_number in self._recent_rows:
                    rows_by_file[self._own_files.name].append((key, self._recent_rows[key_number]))
        return rows_by_file

    def _read_whole_blobs(
        self, name: str, key_rows: Sequence[tuple[str, int]]
    ) -> Iterator[tuple[str, bytes]]:
        with (
            (self._folder / f"{name}.idx").open("rb") as index_file,
            (self._folder / f"{name}.data").open("rb") as data_file,
        ):
            for key, row_number in key_rows:
                entry_bytes = os.pread(index_file.fileno(), _ENTRY.itemsize, row_number * _ENTRY.itemsize)
                entry = np.frombuffer(entry_bytes, _ENTRY)[0]
                blob = os.pread(data_file.fileno(), int(entry["length"]), int(entry["offset"]))
                # On a shared volume an entry may be seen before its blob is whole: that is a miss.
                if zlib.crc32(blob) == entry["checksum"] and len(blob) == entry["length"]:
                    yield key, blob


class _BlobFiles:
    """The pair of files that this process alone writes."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid4().hex
        # `x`: no other process may ever own these files. Unbuffered: what was put survives a kill.
        self._data: BinaryIO = (folder / f"{self.name}.data").open("xb", buffering=0)
        self._index: BinaryIO = (folder / f"{self.name}.idx").open("xb", buffering=0)
        self._count = 0

    def append_blob(self, key: int, blob: bytes) -> int:
        """Writes blob, then entry; returns the entry's row."""
        offset, checksum = self._data.tell(), zlib.crc32(blob)
        # Blob first: an entry that can be seen always points at a blob that was written.
        _write_fully(self._data, blob)
        _write_fully(self._index, np.array([(key, offset, len(blob), checksum)], _ENTRY).tobytes())
        self._count += 1
        return self._count - 1

    def close(self) -> None:
        self._data.close()
        self._index.close()


def _write_fully(stream: BinaryIO, content: bytes) -> None:
    num_written = 0
    while num_written < len(content):  # an unbuffered write may be short
        num_written += stream.write(content[num_written:])
