"""Finished pieces of inference on disk: a table each, and a tally, written last, which says it is whole."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from contracts.artifacts import Artifact, write_json, write_table
from contracts.tables import INFERRED_BEHAVIORS

TABLE_FILE = "inferred_behaviors.parquet"
_ROW_GROUP_SIZE = 8192


@dataclass(frozen=True)
class PieceTally:
    """Counts of a piece."""

    rows: int = 0
    users: int = 0
    """At the last snapshot, which has them all."""
    inferred: int = 0
    """Items."""
    valid: int = 0
    """Those of the catalogue that the user had not logged."""
    seconds: float = 0.0


def name_piece(snapshot_number: int, partition: int) -> str:
    """Names a piece. Names sort in the order of the table: by snapshot, then by partition."""
    return f"{snapshot_number:06d}-{partition:09d}"


def write_piece(folder: Path, name: str, table: pl.DataFrame, tally: PieceTally) -> None:
    """Writes a piece."""
    write_table(folder / f"{name}.parquet", INFERRED_BEHAVIORS, table)
    write_json(folder / f"{name}.json", asdict(tally))


def is_piece_finished(folder: Path, name: str) -> bool:
    """Has the piece been written?"""
    return (folder / f"{name}.json").is_file()


def copy_pieces(source: Path, names: Iterable[str], target: Path) -> None:
    """Copies pieces from the folder that outlives a kill into the artifact, if these are two."""
    if source != target:
        for name in names:
            for suffix in (".json", ".parquet"):
                shutil.copyfile(source / f"{name}{suffix}", target / f"{name}{suffix}")


def join_pieces(folders: Iterable[Path], artifact: Artifact) -> None:
    """Joins all pieces into the artifact's table, in bounded memory, and reports their counts."""
    piece_tables = sorted(
        (path for folder in folders for path in folder.glob("*.parquet")), key=lambda path: path.name
    )
    pl.scan_parquet(piece_tables).sink_parquet(
        artifact.path / TABLE_FILE, compression="zstd", row_group_size=_ROW_GROUP_SIZE
    )
    report_tallies(piece_tables, artifact)


def report_tallies(piece_tables: Iterable[Path], artifact: Artifact) -> None:
    """Enters the counts of pieces into an artifact's metrics."""
    tallies = [
        PieceTally(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        for path in piece_tables
    ]
    num_rows, num_inferred = sum(tally.rows for tally in tallies), sum(tally.inferred for tally in tallies)
    num_valid, seconds = sum(tally.valid for tally in tallies), sum(tally.seconds for tally in tallies)
    artifact.metrics |= {
        "rows": num_rows,
        "users": sum(tally.users for tally in tallies),
        "catalogue_validity": num_valid / num_inferred if num_inferred else 1.0,
        "users_per_s": num_rows / seconds if seconds else 0.0,
    }
