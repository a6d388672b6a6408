"""Artifact folders: written beside their place, renamed into it when whole, with a lineage file.

with new_artifact(out, kind="knowledge", inputs={"dataset": dataset_dir}, config=config) as artifact:
    write_table(artifact.path / "knowledge.parquet", KNOWLEDGE, frame)
    artifact.metrics["coverage"] = coverage
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from contracts.digests import LINEAGE_FILE, code_version, digest_tree
from contracts.errors import UserError
from contracts.schema import Table


@dataclass
class Artifact:
    """An artifact folder while it is being written."""

    path: Path
    """The temporary folder to write into."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Goes into the lineage file and, in a pipeline, into the step's metrics."""
    labels: dict[str, str] = field(default_factory=dict)
    """Names and versions: space, teacher, prompt_version, model_version ..."""


class Lineage(BaseModel):
    """What made an artifact; `chain` holds the lineage of everything upstream, by digest."""

    kind: str
    digest: str
    created_at: datetime
    code_version: str
    config: dict[str, Any]
    inputs: dict[str, str]
    metrics: dict[str, float]
    labels: dict[str, str]
    chain: dict[str, dict[str, Any]] = {}


@contextmanager
def new_artifact(
    out: Path, *, kind: str, inputs: Mapping[str, Path], config: BaseModel | None = None
) -> Iterator[Artifact]:
    """Opens an artifact for writing; on leaving without an error it appears whole at `out`, else not at all."""
    work = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    artifact = Artifact(work)
    try:
        yield artifact
        lineage = _describe(artifact, kind, inputs, config)
        write_text(work / LINEAGE_FILE, lineage.model_dump_json(indent=1))
        if out.exists():
            shutil.rmtree(out)
        os.replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _describe(artifact: Artifact, kind: str, inputs: Mapping[str, Path], config: BaseModel | None) -> Lineage:
    upstream = {name: read_lineage(path) for name, path in inputs.items()}
    chain: dict[str, dict[str, Any]] = {}
    for parent in upstream.values():
        chain |= parent.chain
        chain[parent.digest] = parent.model_dump(mode="json", exclude={"chain"})
    return Lineage(
        kind=kind,
        digest=digest_tree(artifact.path),
        created_at=datetime.now(UTC),
        code_version=code_version(),
        config=config.model_dump(mode="json") if config else {},
        inputs={name: parent.digest for name, parent in upstream.items()},
        metrics={name: float(value) for name, value in artifact.metrics.items()},
        labels=artifact.labels,
        chain=chain,
    )


def read_lineage(folder: Path) -> Lineage:
    """Reads the lineage of an artifact folder.

    Raises:
        UserError: the folder is not a whole artifact.
    """
    path = folder / LINEAGE_FILE
    if not path.is_file():
        raise UserError(f"{folder} is not a complete artifact (no {LINEAGE_FILE}); run the step that makes it again.")
    return Lineage.model_validate_json(path.read_text(encoding="utf-8"))


def verify_artifact(folder: Path) -> Lineage:
    """Reads the lineage of an artifact whose files are still what they were when it was made.

    Raises:
        UserError: the folder is not a whole artifact, or a file in it was changed, added or taken away.
    """
    lineage = read_lineage(folder)
    found = digest_tree(folder)
    if found != lineage.digest:
        raise UserError(
            f"the files of {folder} were changed after it was made (digest {found[:12]}, its lineage says "
            f"{lineage.digest[:12]}); run the step that makes it again."
        )
    return lineage


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str))


def write_table(path: Path, table: Table, frame: pl.DataFrame) -> None:
    """Checks `frame` against its contract and writes it as Parquet, atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    table.check(frame).write_parquet(temporary, compression="zstd")
    os.replace(temporary, path)


def read_table(path: Path, table: Table) -> pl.DataFrame:
    """Reads a Parquet table and verifies its column types (not every value: the writer did that).

    Raises:
        UserError: the file is missing or holds other columns.
    """
    check_table(path, table)
    return pl.read_parquet(path)


def check_table(path: Path, table: Table) -> None:
    """Verifies the column types of a Parquet table without reading its rows.

    Raises:
        UserError: the file is missing or holds other columns.
    """
    if not path.is_file():
        raise UserError(f"table '{table.name}' not found at {path}")
    found = pl.read_parquet_schema(path)
    if found != table.schema:
        raise UserError(f"{path} is not a '{table.name}' table: expected {table.schema}, found {found}")
