"""A component's page: what it needs, its ports, and the tables that come in and go out by them."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from docstring_parser import parse
from kfp.dsl import base_component

from components.component_metadata import Dependency, read_metadata
from components.port_tables import (
    KIND_TABLES,
    WORKSPACE_FOLDERS,
    TableFile,
    find_port_tables,
)
from contracts.table_schema import Column, Table

# KFP's types of artifacts that hold files of no table: models and figures.
_TYPES_WITHOUT_TABLES: Final = ("system.Model", "system.Metrics")


def build_component_page(component_folder: Path) -> str:
    """The page in Markdown."""
    name = component_folder.name
    module = import_module(f"components.{name}.component")
    kfp_component: base_component.BaseComponent = getattr(module, name)
    parsed_docstring = parse(_read_docstring(component_folder / "component.py"))
    port_texts = {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for parameter in parsed_docstring.params
    }
    component_spec = kfp_component.component_spec
    page_lines = [
        f"# {name}\n",
        f"{parsed_docstring.short_description}\n",
        *_describe_needs(component_folder),
    ]
    for section_title, ports in (("Inputs", component_spec.inputs), ("Outputs", component_spec.outputs)):
        page_lines += [f"## {section_title}\n", "| name | type | what |", "|---|---|---|"]
        page_lines += [
            f"| `{port_name}` | {port.type} | {port_texts.get(port_name, '')} |"
            for port_name, port in (ports or {}).items()
        ]
        page_lines.append("")
    page_lines += _describe_tables(_list_table_places(name, component_spec))
    return "\n".join(page_lines)


def _read_docstring(source: Path) -> str:
    syntax_tree = ast.parse(source.read_text(encoding="utf-8"))
    component_function = next(node for node in syntax_tree.body if isinstance(node, ast.FunctionDef))
    return ast.get_docstring(component_function) or ""


def _describe_needs(component_folder: Path) -> Iterator[str]:
    metadata = read_metadata(component_folder)

    def list_dependencies(dependencies: tuple[Dependency, ...]) -> str:
        return ", ".join(f"{dependency.name} {dependency.version}" for dependency in dependencies)

    yield "| stability | Kubeflow | other services | last verified |\n|---|---|---|---|"
    yield (
        f"| {metadata.stability} | {list_dependencies(metadata.dependencies.kubeflow)} "
        f"| {list_dependencies(metadata.dependencies.external_services) or 'none'} "
        f"| {metadata.last_verified:%Y-%m-%d} |\n"
    )


def _list_table_places(name: str, component_spec: Any) -> dict[str, tuple[Table, list[str]]]:
    """Name of a table -> the table, and where it is read and written, in words."""
    table_places: dict[str, tuple[Table, list[str]]] = {}

    def add(verb: str, place: str, table_file: TableFile) -> None:
        _, places = table_places.setdefault(table_file.table.name, (table_file.table, []))
        only_sometimes = ", where there are such rows" if table_file.is_optional else ""
        places.append(f"{verb} `{place}/{table_file.pattern}`{only_sometimes}")

    for verb, ports in (("in:", component_spec.inputs), ("out:", component_spec.outputs)):
        for port_name, port in (ports or {}).items():
            if port.type.startswith("system.") and not port.type.startswith(_TYPES_WITHOUT_TABLES):
                for table_file in find_port_tables(name, port_name):
                    add(verb, port_name, table_file)
    if workspace_folder := WORKSPACE_FOLDERS.get(name):
        for table_file in KIND_TABLES[workspace_folder.kind]:
            verb = "out:" if workspace_folder.is_written else "in:"
            add(verb, f"<workspace>/{workspace_folder.folder}", table_file)
    return table_places


def _describe_tables(table_places: dict[str, tuple[Table, list[str]]]) -> Iterator[str]:
    if not table_places:
        return
    yield "## Tables\n"
    for table, places in table_places.values():
        key = f" Key: {', '.join(f'`{column}`' for column in table.key)}." if table.key else ""
        yield f"### {table.name}\n\n{table.doc}{key}\n"
        yield "".join(f"- {place}\n" for place in places)
        yield "| column | type | what |\n|---|---|---|"
        yield from (f"| `{column.name}` | {_name_type(column)} | {column.doc} |" for column in table.columns)
        yield ""


def _name_type(column: Column) -> str:
    polars_type = re.sub(r"\w+='(\w+)'", r"\1", str(column.dtype)).replace("({", "(").replace("})", ")")
    return polars_type.replace("'", "") + (", may be null" if column.nullable else "")
