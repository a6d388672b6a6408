"""Which model or code it is that answers: part of every cache key."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from contracts.digests import digest_file, digest_value
from models.knowledge.teachers.teacher import Teacher

_MODEL_SUFFIXES = {".json", ".jinja", ".model", ".safetensors"}
"""Configuration, chat template, tokenizer and weights."""


class TeacherIdentity(NamedTuple):
    """Who answers: what two teachers that would not answer alike do not share."""

    name: str
    sampling: str
    """Digest of all else that changes answers."""

    @classmethod
    def of_teacher(cls, teacher: Teacher) -> "TeacherIdentity":
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

    A local folder is named by its content (all weights are read once), a hub model by its revision; without a
    revision the hub's name has to do, though its owner may change what it means.
    """
    model_folder = Path(model)
    if model_folder.is_dir():
        content_digest = digest_value(
            [(path.name, digest_file(path)) for path in list_model_files(model_folder)]
        )
        return f"{model_folder.resolve().name}-{content_digest[:8]}"
    return f"{model}@{revision}" if revision else model


def list_model_files(model_folder: Path) -> list[Path]:
    """The files that change a model's answers, not its notes and licenses; none where there is no folder."""
    if not model_folder.is_dir():
        return []
    return sorted(path for path in model_folder.iterdir() if path.suffix in _MODEL_SUFFIXES)


def identify_source_code(paths: Iterable[Path]) -> str:
    """Digest (8 hex digits) of source files, folders standing for all in them: for teachers that are code."""
    source_files = sorted(
        file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])
    )
    return digest_value([(file.name, digest_file(file)) for file in source_files])[:8]
