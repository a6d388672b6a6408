"""Reads the handbook's YAML files, and names all that is wrong with them at once."""

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError

from contracts.config_text import parse_yaml
from contracts.digests import digest_value
from contracts.errors import UserError
from models.knowledge.handbook.concepts import Concept, Department, Situation, Trait

_LISTS: Final = ("concepts", "traits", "situations", "departments")

Entry = TypeVar("Entry", Concept, Trait, Situation, Department)


class Handbook(NamedTuple):
    """All that the files hold, and the version of the whole."""

    concepts: tuple[Concept, ...]
    traits: tuple[Trait, ...]
    situations: tuple[Situation, ...]
    departments: tuple[Department, ...]
    version: str


def read_handbook(folder: Path | None = None) -> Handbook:
    """Reads all concept files of a folder, or the handbook that comes with the package.

    Raises:
        UserError: no concept file there, a file is not valid, or an id stands twice; all faults are named
            together.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"teacher.folder: {folder} is not a folder of concept files (*.yaml)")
    root: Traversable = files("models.knowledge.handbook") if folder is None else folder
    yaml_paths = sorted(
        (path for path in root.iterdir() if path.name.endswith(".yaml")), key=lambda path: path.name
    )
    faults: list[str] = []
    file_contents = [_read_concept_file(path, faults) for path in yaml_paths]
    concepts = _parse_entries(Concept, file_contents, "concepts", faults)
    traits = _parse_entries(Trait, file_contents, "traits", faults)
    situations = _parse_entries(Situation, file_contents, "situations", faults)
    departments = _parse_entries(Department, file_contents, "departments", faults)
    if not concepts and not faults:
        faults.append(f"no concepts in {root}")
    # An entry that could not be read would make every id that names it look wrong.
    faults = faults or _find_wrong_ids(concepts, situations, departments)
    if faults:
        raise UserError(f"the handbook cannot be used: {'; '.join(faults)}")
    return Handbook(concepts, traits, situations, departments, digest_value(file_contents)[:8])


def _read_concept_file(path: Traversable, faults: list[str]) -> dict[str, list[dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
        file_content = parse_yaml(text, origin=path.name).value
    except UserError as error:
        faults.append(str(error))
        return {}
    if not isinstance(file_content, dict) or not file_content.keys() <= {"version", *_LISTS}:
        faults.append(f"{path.name}: expected 'version' and the lists {', '.join(_LISTS)} and nothing else")
        return {}
    for list_name in _LISTS:
        entries = file_content.get(list_name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            faults.append(f"{path.name}: {list_name}: expected a list of entries with fields")
            return {}
    if not isinstance(file_content.get("version"), int):
        faults.append(
            f"{path.name}: a 'version' (a whole number, raised with each change of meaning) is missing"
        )
    return file_content


def _parse_entries(
    entry_type: type[Entry], contents: list[dict[str, Any]], list_name: str, faults: list[str]
) -> tuple[Entry, ...]:
    parsed_entries: dict[str, Entry] = {}
    for entry in (entry for content in contents for entry in content.get(list_name, [])):
        try:
            parsed_entry = entry_type.model_validate(entry)
        except ValidationError as error:
            first_error = error.errors()[0]
            place = ".".join(map(str, first_error["loc"]))
            faults.append(f"{entry.get('id')}: {place}: {first_error['msg']}")
            continue
        if parsed_entry.id in parsed_entries:
            faults.append(f"{parsed_entry.id}: stands twice")
        parsed_entries[parsed_entry.id] = parsed_entry
    return tuple(parsed_entries.values())


def _find_wrong_ids(
    concepts: Sequence[Concept], situations: Sequence[Situation], departments: Sequence[Department]
) -> list[str]:
    """What is wrong where entries name concepts: unknown ids, the entry itself, an id written twice."""
    concept_ids = {concept.id for concept in concepts}
    named_ids = [
        (f"{concept.id}: {field_name}", other_ids, concept_ids - {concept.id})
        for concept in concepts
        for field_name, other_ids in (("goes_with", concept.goes_with), ("instead_of", concept.instead_of))
    ]
    named_ids += [(f"situation {situation.id}", situation.concepts, concept_ids) for situation in situations]
    named_ids += [
        (f"department {department.id}", department.concepts, concept_ids) for department in departments
    ]
    faults = []
    for place, other_concepts, allowed_ids in named_ids:
        unknown_ids = sorted(set(other_concepts) - allowed_ids)
        faults += [f"{place}: no other concept is called {one}" for one in unknown_ids]
        faults += [
            f"{place}: {one} stands twice"
            for one in sorted(set(other_concepts))
            if other_concepts.count(one) > 1
        ]
    return faults
