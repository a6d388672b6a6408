"""Finished pieces of inference on disk: a table each, and a tally that is written last and so says it is whole."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from contracts.artifacts import Artifact, write_json, write_table
from contracts.tables import INFERRED_BEHAVIORS

TABLE_FILE = "inferred_behaviors.parquet"
_SUFFIXES = (".json", ".parquet")
_ROW_GROUP = 8192


@dataclass(frozen=True)
class Tally:
    """Counts of a piece."""

    rows: int = 0
    users: int = 0
    """At the last snapshot, which has them all."""
    inferred: int = 0
    """Items."""
    valid: int = 0
    """Those of the catalogue that the user had not logged."""
    seconds: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            *(mine + theirs for mine, theirs in zip(*(asdict(t).values() for t in (self, other)), strict=True))
        )


def part_name(snapshot: int, cell: int) -> str:
    """Name of a piece; names sort in the order of the table: by snapshot, then by cell."""
    return f"{snapshot:06d}-{cell:09d}"


def write_part(folder: Path, name: str, table: pl.DataFrame, tally: Tally) -> None:
    """Writes a piece."""
    write_table(folder / f"{name}.parquet", INFERRED_BEHAVIORS, table)
    write_json(folder / f"{name}.json", asdict(tally))


def is_done(folder: Path, name: str) -> bool:
    """Has the piece been written?"""
    return (folder / f"{name}.json").is_file()


def take_over(kept: Path, names: Iterable[str], parts: Path) -> None:
    """Copies pieces from the folder that outlives a kill into the artifact, if these are two."""
    if kept != parts:
        for name in names:
            for suffix in _SUFFIXES:
                shutil.copyfile(kept / f"{name}{suffix}", parts / f"{name}{suffix}")


def join_parts(folders: Iterable[Path], artifact: Artifact) -> None:
    """Joins all pieces in `folders` into the artifact's table, with bounded memory, and reports their counts."""
    tables = sorted((path for folder in folders for path in folder.glob("*.parquet")), key=lambda path: path.name)
    pl.scan_parquet(tables).sink_parquet(artifact.path / TABLE_FILE, compression="zstd", row_group_size=_ROW_GROUP)
    report(tables, artifact)


def report(tables: Iterable[Path], artifact: Artifact) -> None:
    """Enters the counts of pieces into an artifact's metrics."""
    tallies = (json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) for path in tables)
    total = sum((Tally(**tally) for tally in tallies), Tally())
    artifact.metrics |= {
        "rows": total.rows,
        "users": total.users,
        "catalogue_validity": total.valid / total.inferred if total.inferred else 1.0,
        "users_per_s": total.rows / total.seconds if total.seconds else 0.0,
    }
