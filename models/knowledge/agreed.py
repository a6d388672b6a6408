"""Answers on which all processes agree: of those given to one question at the same moment, the first that was kept.

A plan serves many products, and so several shards. A teacher that samples gives each of them another; whoever keeps
his first decides for all. Each answer is a folder of its own that is renamed into place: that fails where there is one
already, on any file system, and needs no lock.
"""

import os
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

_BLOB = "answer"


class Agreed:
    """Blobs by key; the first one stays."""

    def __init__(self, folder: Path) -> None:
        """The folder is made with the first blob."""
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        """What was agreed on."""
        try:
            return (self._folder / key / _BLOB).read_bytes()
        except FileNotFoundError:
            return None

    def all(self) -> list[bytes]:
        """Everything that was agreed on, by key."""
        return [path.read_bytes() for path in sorted(self._folder.glob(f"[!.]*/{_BLOB}"))]

    def put(self, key: str, blob: bytes) -> bytes:
        """Proposes a blob; returns the one that all processes use from now on."""
        if (kept := self.get(key)) is not None:
            return kept
        proposal = self._folder / f".{uuid4().hex}"
        proposal.mkdir(parents=True)
        try:
            with (proposal / _BLOB).open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())  # an entry without its content would stay for ever
            proposal.rename(self._folder / key)
        except OSError:
            if (kept := self.get(key)) is None:
                raise
            return kept
        finally:
            rmtree(proposal, ignore_errors=True)
        return blob
