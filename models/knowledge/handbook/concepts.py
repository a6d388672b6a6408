"""The handbook's concepts: what the world knows about one kind of product each, read from YAML files."""

from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field, ValidationError, field_validator

from contracts.config import Config
from contracts.digests import digest_value
from contracts.errors import UserError
from contracts.tables import FACETS


class Hint(Config):
    """One piece of knowledge; with cues it holds only for products whose text mentions one of them."""

    text: str = Field(min_length=1, max_length=160)
    cues: tuple[str, ...] = ()


Hints = tuple[Hint, ...]


class Concept(Config):
    """One kind of product.

    In YAML a hint is its text, or `cue / other cue: text`.
    """

    id: str
    name: str
    categories: tuple[str, ...] = ()
    """Category paths, or the ends of paths, that hold products of this kind: `Dogs > Food`."""
    terms: tuple[str, ...]
    """What titles call it; all words of a term must occur."""
    summary: str = Field(max_length=300)
    demands: Hints
    audiences: Hints
    scenarios: Hints
    attributes: Hints
    complements: Hints
    substitutes: Hints
    lifecycle: Hints
    unless: dict[str, str] = {}
    """Cue -> words: where the product's text mentions the cue, claims holding these words are wrong."""

    @field_validator(*FACETS, mode="before")
    @classmethod
    def _read_hints(cls, value: Any) -> Any:
        return [_read_hint(entry) for entry in value]

    @cached_property
    def focus(self) -> tuple[str, ...]:
        """What the planner should look at: the attributes that matter."""
        return tuple(hint.text for hint in self.attributes[:6])


class Handbook(NamedTuple):
    """All concepts, and the version of the whole."""

    concepts: tuple[Concept, ...]
    version: str


def read_handbook(folder: Path | None = None) -> Handbook:
    """Reads all concept files of a folder, or the handbook that comes with the package.

    Raises:
        UserError: no concept file there, a file is not valid, or an id stands twice; all faults are named together.
    """
    root: Traversable = files("models.knowledge.handbook") if folder is None else folder
    if folder is not None and not folder.is_dir():
        raise UserError(f"teacher.folder: {folder} is not a folder of concept files (*.yaml)")
    entries: list[dict[str, Any]] = []
    for path in sorted((path for path in root.iterdir() if path.name.endswith(".yaml")), key=lambda path: path.name):
        entries += yaml.safe_load(path.read_text(encoding="utf-8"))["concepts"]
    concepts, faults = _parse(entries)
    if not entries or faults:
        raise UserError("the handbook cannot be used: " + ("; ".join(faults) or f"no concept files (*.yaml) in {root}"))
    return Handbook(concepts, digest_value(entries)[:8])


def _parse(entries: list[dict[str, Any]]) -> tuple[tuple[Concept, ...], list[str]]:
    concepts: dict[str, Concept] = {}
    faults: list[str] = []
    for entry in entries:
        try:
            concept = Concept.model_validate(entry)
        except ValidationError as error:
            fault = error.errors()[0]
            faults.append(f"{entry.get('id')}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}")
            continue
        if concept.id in concepts:
            faults.append(f"{concept.id}: stands twice")
        concepts[concept.id] = concept
    return tuple(concepts.values()), faults


def _read_hint(entry: Any) -> dict[str, Any]:
    if isinstance(entry, dict):
        ((cues, text),) = entry.items()
        return {"text": text, "cues": tuple(cue.strip() for cue in str(cues).split(" / "))}
    return {"text": str(entry)}
