"""The result files: `benchmarks/results/<name>.json`, a list of rows, one row per figure."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from contracts.digests import digest_file, digest_value

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
_SOURCES = {".py", ".yaml", ".md"}


class Row(BaseModel):
    """One figure; it is written by the command that measured it, never by hand."""

    id: str
    value: float
    sd: float | None = None
    """Standard deviation over the seeds."""
    seeds: list[int] = []
    unit: str
    better: Literal["higher", "lower"]
    data: str
    command: str
    commit: str
    hardware: str
    date: str


def make_row(
    row_id: str,
    values: Sequence[float],
    *,
    unit: str,
    better: Literal["higher", "lower"],
    data: str,
    command: str,
    seeds: Sequence[int] = (),
) -> Row:
    """A row from the values of several seeds (or of a single measurement)."""
    return Row(
        id=row_id,
        value=statistics.fmean(values),
        sd=statistics.stdev(values) if len(values) > 1 else None,
        seeds=list(seeds),
        unit=unit,
        better=better,
        data=data,
        command=command,
        commit=_commit(),
        hardware=hardware(),
        date=datetime.now(UTC).date().isoformat(),
    )


def write_rows(name: str, rows: Sequence[Row], *, results: Path = RESULTS) -> Path:
    """Writes `results/<name>.json`; rows of ids that were not measured now are kept."""
    path = results / f"{name}.json"
    known = {row.id: row for row in read_rows(path)} if path.is_file() else {}
    known |= {row.id: row for row in rows}
    results.mkdir(parents=True, exist_ok=True)
    content = [row.model_dump() for row in sorted(known.values(), key=lambda row: row.id)]
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def read_rows(path: Path) -> list[Row]:
    """Reads a result file."""
    return [Row.model_validate(row) for row in json.loads(path.read_text(encoding="utf-8"))]


def hardware() -> str:
    """Processor, cores and memory of this machine."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores {platform.machine()}, {memory_gib:.0f} GiB, no GPU"


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    dirty = "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + dirty


def digest_sources(*places: str) -> str:
    """Digest of the sources in some files and folders of the repository: what they made is used again."""
    roots = [ROOT.parent / place for place in places]
    found = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    files = sorted(path for path in found if path.suffix in _SOURCES and path.name != "README.md")
    return digest_value([(str(path.relative_to(ROOT.parent)), digest_file(path)) for path in files])
