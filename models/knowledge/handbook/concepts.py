"""The handbook's concepts: what the world knows about one kind of product each, read from YAML files."""

from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

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


class Trait(Config):
    """What is known of any product whose text mentions a cue: "iPad" speaks of an owner of Apple devices."""

    id: str
    cues: tuple[str, ...]
    demands: Hints = ()
    audiences: Hints = ()
    scenarios: Hints = ()
    complements: Hints = ()

    @model_validator(mode="before")
    @classmethod
    def _read_hints(cls, value: Any) -> Any:
        cues = tuple(value["cues"])
        facets = {facet: [{"text": text, "cues": cues} for text in value.get(facet, ())] for facet in FACETS}
        return {**value, **{facet: hints for facet, hints in facets.items() if hints}}


Entry = TypeVar("Entry", Concept, Trait)


class Handbook(NamedTuple):
    """All concepts and traits, and the version of the whole."""

    concepts: tuple[Concept, ...]
    traits: tuple[Trait, ...]
    version: str


def read_handbook(folder: Path | None = None) -> Handbook:
    """Reads all concept files of a folder, or the handbook that comes with the package.

    Raises:
        UserError: no concept file there, a file is not valid, or an id stands twice; all faults are named together.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"teacher.folder: {folder} is not a folder of concept files (*.yaml)")
    root: Traversable = files("models.knowledge.handbook") if folder is None else folder
    paths = sorted((path for path in root.iterdir() if path.name.endswith(".yaml")), key=lambda path: path.name)
    faults: list[str] = []
    contents = [_read_file(path, faults) for path in paths]
    concepts = _parse(Concept, [entry for content in contents for entry in content.get("concepts", [])], faults)
    traits = _parse(Trait, [entry for content in contents for entry in content.get("traits", [])], faults)
    if not concepts and not faults:
        faults.append(f"no concepts in {root}")
    if faults:
        raise UserError(f"the handbook cannot be used: {'; '.join(faults)}")
    return Handbook(concepts, traits, digest_value(contents)[:8])


def _read_file(path: Traversable, faults: list[str]) -> dict[str, list[dict[str, Any]]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        faults.append(f"{path.name}: {error}")
        return {}
    if not isinstance(content, dict) or not content.keys() <= {"concepts", "traits"}:
        faults.append(f"{path.name}: expected the lists 'concepts' and 'traits' and nothing else")
        return {}
    return content


def _parse(model: type[Entry], entries: list[dict[str, Any]], faults: list[str]) -> tuple[Entry, ...]:
    parsed: dict[str, Entry] = {}
    for entry in entries:
        try:
            value = model.model_validate(entry)
        except ValidationError as error:
            fault = error.errors()[0]
            faults.append(f"{entry.get('id')}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}")
            continue
        if value.id in parsed:
            faults.append(f"{value.id}: stands twice")
        parsed[value.id] = value
    return tuple(parsed.values())


def _read_hint(entry: Any) -> dict[str, Any]:
    if isinstance(entry, dict):
        ((cues, text),) = entry.items()
        return {"text": text, "cues": tuple(cue.strip() for cue in str(cues).split(" / "))}
    return {"text": str(entry)}
