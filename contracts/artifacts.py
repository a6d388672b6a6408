"""Artifact folders: written beside their place, renamed into it when whole, with a lineage file.

with create_artifact(out, kind="knowledge", inputs={"dataset": dataset_dir}, config=config) as artifact:
    write_table(artifact.path / "knowledge.parquet", KNOWLEDGE, frame)
    artifact.metrics["coverage"] = coverage
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from contracts.digests import LINEAGE_FILE, compute_code_version, digest_folder
from contracts.errors import UserError
from contracts.table_schema import Table


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
def create_artifact(
    out: Path, *, kind: str, inputs: Mapping[str, Path], config: BaseModel | None = None
) -> Iterator[Artifact]:
    """Opens an artifact for writing. It appears at `out` whole, or after an error not at all."""
    temporary_folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary_folder, ignore_errors=True)
    temporary_folder.mkdir(parents=True)
    artifact = Artifact(temporary_folder)
    try:
        yield artifact
        lineage = _describe_lineage(artifact, kind, inputs, config)
        write_text(temporary_folder / LINEAGE_FILE, lineage.model_dump_json(indent=1))
        if out.exists():
            shutil.rmtree(out)
        os.replace(temporary_folder, out)
    finally:
        shutil.rmtree(temporary_folder, ignore_errors=True)


def _describe_lineage(
    artifact: Artifact, kind: str, inputs: Mapping[str, Path], config: BaseModel | None
) -> Lineage:
    parent_lineages = {name: read_lineage(path) for name, path in inputs.items()}
    upstream_chain: dict[str, dict[str, Any]] = {}
    for parent_lineage in parent_lineages.values():
        upstream_chain |= parent_lineage.chain
        upstream_chain[parent_lineage.digest] = parent_lineage.model_dump(mode="json", exclude={"chain"})
    return Lineage(
        kind=kind,
        digest=digest_folder(artifact.path),
        created_at=datetime.now(UTC),
        code_version=compute_code_version(),
        config=config.model_dump(mode="json") if config else {},
        inputs={name: parent_lineage.digest for name, parent_lineage in parent_lineages.items()},
        metrics={name: float(value) for name, value in artifact.metrics.items()},
        labels=artifact.labels,
        chain=upstream_chain,
    )


def read_lineage(folder: Path) -> Lineage:
    """Reads the lineage of an artifact folder.

    Raises:
        UserError: the folder is not a whole artifact.
    """
    lineage_path = folder / LINEAGE_FILE
    if not lineage_path.is_file():
        raise UserError(
            f"{folder} is not a complete artifact (no {LINEAGE_FILE}); run the step that makes it again."
        )
    return Lineage.model_validate_json(lineage_path.read_text(encoding="utf-8"))


def verify_artifact(folder: Path) -> Lineage:
    """Reads the lineage of an artifact whose files are still what they were when it was made.

    Raises:
        UserError: the folder is not a whole artifact, or a file in it was changed, added or taken away.
    """
    lineage = read_lineage(folder)
    current_digest = digest_folder(folder)
    if current_digest != lineage.digest:
        raise UserError(
            f"the files of {folder} were changed after it was made (digest {current_digest[:12]}, its "
            f"lineage says {lineage.digest[:12]}); run the step that makes it again."
        )
    return lineage


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    temporary_path = _name_temporary(path)
    temporary_path.write_text(text, encoding="utf-8")
    os.replace(temporary_path, path)


def create_text(path: Path, text: str) -> bool:
    """Writes a text file unless there is one; of several writers at once exactly one succeeds.

    A hard link is made in one step also on NFS, where a lock is often none. The file is never seen half.

    Returns:
        Whether it was written here.

    Raises:
        UserError: the file system knows no hard links.
    """
    temporary_path = _name_temporary(path)
    temporary_path.write_text(text, encoding="utf-8")
    try:
        with suppress(FileExistsError):
            os.link(temporary_path, path)
        # NFS may lose the answer to a link that was made; the number of names tells.
        return temporary_path.stat().st_nlink == 2
    except OSError as error:
        raise UserError(
            f"{path.parent} takes no hard links ({error.strerror}), by which writers agree; put it on local "
            "disks or NFS"
        ) from error
    finally:
        temporary_path.unlink()


def _name_temporary(path: Path) -> Path:
    # Not by process id: in two pods that share a volume it is the same.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str))


def write_table(path: Path, table: Table, frame: pl.DataFrame) -> None:
    """Checks `frame` against its contract and writes it as Parquet, atomically."""
    temporary_path = _name_temporary(path)
    table.check_rows(frame).write_parquet(temporary_path, compression="zstd")
    os.replace(temporary_path, path)


def read_table(path: Path, table: Table) -> pl.DataFrame:
    """Reads a Parquet table and verifies its column types (not every value: the writer did that).

    Raises:
        UserError: the file is missing or holds other columns.
    """
    check_table_columns(path, table)
    return pl.read_parquet(path)


def check_table_columns(path: Path, table: Table) -> None:
    """Verifies the column types of a Parquet table without reading its rows.

    Raises:
        UserError: the file is missing or holds other columns.
    """
    if not path.is_file():
        raise UserError(f"table '{table.name}' not found at {path}")
    found_schema = pl.read_parquet_schema(path)
    if found_schema != table.schema:
        raise UserError(
            f"{path} is not a '{table.name}' table: expected {table.schema}, found {found_schema}"
        )
