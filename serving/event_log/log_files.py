"""Files of the event log: whole lines at the end, and a lock that says that their writer lives."""

import fcntl
import os
import threading
from pathlib import Path
from typing import Self


class LogFile:
    """A file that this process owns: nobody else writes into it or forwards it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Takes an open, locked file."""
        self.path = path
        self._descriptor = descriptor
        self._size = self._synced_size = os.fstat(descriptor).st_size
        self._syncing = threading.Lock()
        self._is_open = True
        self._is_name_synced = False

    @property
    def size(self) -> int:
        """Bytes of whole appends."""
        return self._size

    def append_bytes(self, content: bytes) -> None:
        """Writes at the end, wholly or not at all.

        Raises:
            OSError: the disk refused; the file is as it was.
        """
        try:
            num_written = os.write(self._descriptor, content)
            if num_written < len(content):
                raise OSError(f"the disk took {num_written} of {len(content)} bytes")
        except OSError:
            # Half a line in the middle of a file would spoil the next one.
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)

    def sync_to_disk(self) -> None:
        """Returns when everything appended so far is on the disk; costs nothing where it is already."""
        with self._syncing:
            size = self._size
            if size > self._synced_size:
                os.fsync(self._descriptor)
                if not self._is_name_synced:  # the new file's name must survive a power cut as well
                    _sync_folder(self.path.parent)
                    self._is_name_synced = True
                self._synced_size = size

    def read_lines(self, start: int, limit: int) -> bytes:
        """Whole lines from `start`, about `limit` bytes; nothing where not one whole line follows."""
        while start < self._size:
            content = os.pread(self._descriptor, min(limit, self._size - start), start)
            if (last_line_end := content.rfind(b"\n") + 1) or len(content) < limit:
                return content[:last_line_end]
            limit *= 2  # one line is longer than that
        return b""

    def close(self) -> None:
        """Closes the file and gives up the lock. What was not synced may still be lost."""
        with self._syncing:
            if self._is_open:
                os.close(self._descriptor)
            self._is_open, self._synced_size = False, self._size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_locked_file(folder: Path, name: str) -> LogFile:
    """Creates a file of our own; under its name it is never seen without its lock."""
    final_path, temporary_path = folder / name, folder / f".{name}.tmp"
    file = LogFile(final_path, _open_and_lock(temporary_path, os.O_CREAT | os.O_EXCL))
    try:
        os.replace(temporary_path, final_path)
    except OSError:
        file.close()
        temporary_path.unlink(missing_ok=True)
        raise
    return file


def take_over_file(path: Path) -> LogFile | None:
    """Takes over a file whose writer is gone; None while it lives, or where the file is gone as well."""
    try:
        return LogFile(path, _open_and_lock(path, 0))
    except (BlockingIOError, FileNotFoundError):
        return None


def _open_and_lock(path: Path, flags: int) -> int:
    # The lock goes with the process, however it ends: that is how others know that it is gone.
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | flags, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
