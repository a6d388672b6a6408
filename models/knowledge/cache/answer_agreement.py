"""Answers on which all processes agree: of several answers to one question, the first that was kept.

A plan serves many products, and so several shards. A teacher that samples gives each shard another plan;
whoever keeps theirs first decides for all. Each answer is a folder of its own that is renamed into place.
That fails where there is one already, on any file system, and needs no lock.
"""

import os
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

_BLOB_NAME = "answer"


class AnswerAgreement:
    """Blobs by key; the first one stays."""

    def __init__(self, folder: Path) -> None:
        """The folder is made with the first blob."""
        self._folder = folder

    def read_agreed_blob(self, key: str) -> bytes | None:
        """What was agreed on."""
        try:
            return (self._folder / key / _BLOB_NAME).read_bytes()
        except FileNotFoundError:
            return None

    def read_all_agreed(self) -> list[bytes]:
        """Everything that was agreed on, by key."""
        return [blob_path.read_bytes() for blob_path in sorted(self._folder.glob(f"[!.]*/{_BLOB_NAME}"))]

    def propose_blob(self, key: str, blob: bytes) -> bytes:
        """Proposes a blob; returns the one that all processes use from now on."""
        if (agreed_blob := self.read_agreed_blob(key)) is not None:
            return agreed_blob
        proposal_folder = self._folder / f".{uuid4().hex}"
        proposal_folder.mkdir(parents=True)
        try:
            with (proposal_folder / _BLOB_NAME).open("wb") as blob_file:
                blob_file.write(blob)
                blob_file.flush()
                os.fsync(blob_file.fileno())  # an entry without its content would stay for ever
            proposal_folder.rename(self._folder / key)
        except OSError:
            if (agreed_blob := self.read_agreed_blob(key)) is None:
                raise
            return agreed_blob
        finally:
            rmtree(proposal_folder, ignore_errors=True)
        return blob
