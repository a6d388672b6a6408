"""Which model or code it is that answers: part of every cache key."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from contracts.digests import digest_file, digest_value
from models.knowledge.teachers.base import Teacher

_SUFFIXES = {".json", ".jinja", ".model", ".safetensors"}
"""Configuration, chat template, tokenizer and weights."""


class Identity(NamedTuple):
    """Who answers: what two teachers that would not answer alike do not share."""

    name: str
    sampling: str
    """Digest of all else that changes answers."""

    @classmethod
    def of(cls, teacher: Teacher) -> "Identity":
        """Who a teacher is."""
        return cls(teacher.name, digest_value(teacher.sampling))

    @property
    def digest(self) -> str:
        """16 hex digits."""
        return digest_value(self)

    def __str__(self) -> str:
        return f"{self.name}#{self.sampling[:8]}"


def identify_model(model: str, revision: str | None) -> str:
    """A name that changes when the weights do.

    A local folder is named by its content (all weights are read once), a hub model by its revision; without a revision
    the hub's name has to do, though its owner may change what it means.
    """
    folder = Path(model)
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
        return f"{folder.resolve().name}-{digest_value([(path.name, digest_file(path)) for path in files])[:8]}"
    return f"{model}@{revision}" if revision else model


def identify_code(paths: Iterable[Path]) -> str:
    """Digest (8 hex digits) of source files, folders standing for all in them: for teachers that are code."""
    files = sorted(file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path]))
    return digest_value([(file.name, digest_file(file)) for file in files])[:8]
