"""The result files: `benchmarks/results/<name>.json`, a list of rows, one row per figure.

A row is written by the command that measured it, from committed code only. Its commit names the code, so
anyone can measure it again.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from contracts.digests import digest_file, digest_value
from contracts.errors import UserError

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"
PUBLISHED = REPOSITORY / "benchmarks" / "published.yaml"
BASELINES = REPOSITORY / "benchmarks" / "baselines.json"
_SOURCE_SUFFIXES = {".py", ".yaml", ".md"}
_GENERATED = (":!benchmarks/results", ":!docs", ":!README.md")
"""What measuring changes itself: these paths may differ from the commit."""


class Row(BaseModel):
    """One figure."""

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
    measured: float | Sequence[float],
    *,
    unit: str,
    better: Literal["higher", "lower"] = "higher",
    data: str,
    command: str | None = None,
    seeds: Sequence[int] = (),
    sd: float | None = None,
) -> Row:
    """A row from the values of several seeds, or from a single measurement.

    Args:
        row_id: begins with the name of the benchmark.
        measured: one value, or one for each seed.
        unit: of the value.
        better: whether more is better.
        data: what was measured on.
        command: the command that measures it; by default the benchmark's own.
        seeds: the seeds of the values.
        sd: standard deviation, where it is not that of the values.
    """
    values = list(measured) if isinstance(measured, Sequence) else [measured]
    if len(values) > 1 and sd is None:
        sd = statistics.stdev(values)
    return Row(
        id=row_id,
        value=statistics.fmean(values),
        sd=sd,
        seeds=list(seeds),
        unit=unit,
        better=better,
        data=data,
        command=command or f"make bench-{row_id.partition('.')[0]}",
        commit=_run_git("rev-parse", "--short", "HEAD"),
        hardware=describe_hardware(),
        date=datetime.now(UTC).date().isoformat(),
    )


def require_committed_code() -> None:
    """Checks that the code which is about to be measured is a commit.

    Raises:
        UserError: a source differs from its commit, so that a row could not name what it measured.
    """
    changed_files = _run_git("status", "--porcelain", "--", ".", *_GENERATED)
    if changed_files:
        raise UserError(
            "the working tree differs from its commit, so no row can name the code it measured:\n"
            f"{changed_files}\n"
            "Commit the change, or measure with --quick, which writes nothing."
        )


def write_rows(name: str, rows: Sequence[Row], *, results: Path = RESULTS) -> Path:
    """Writes the rows that somebody reads into `results/<name>.json`; rows not measured now are kept.

    Raises:
        UserError: the working tree differs from its commit.
    """
    if results == RESULTS:
        require_committed_code()
    results_file = results / f"{name}.json"
    rows_by_id = {row.id: row for row in read_rows(results_file)} if results_file.is_file() else {}
    rows_by_id |= {row.id: row for row in rows}
    if results == RESULTS:
        # An id that neither the results page nor a baseline names would only make the file longer.
        published_text = PUBLISHED.read_text(encoding="utf-8") + BASELINES.read_text(encoding="utf-8")
        published_ids = set(re.findall(r"[\w.]+", published_text))
        rows_by_id = {row_id: row for row_id, row in rows_by_id.items() if row_id in published_ids}
    results.mkdir(parents=True, exist_ok=True)
    row_dicts = [row.model_dump() for row in sorted(rows_by_id.values(), key=lambda row: row.id)]
    results_file.write_text(json.dumps(row_dicts, indent=1) + "\n", encoding="utf-8")
    return results_file


def read_rows(path: Path) -> list[Row]:
    """Reads a result file."""
    return [Row.model_validate(row) for row in json.loads(path.read_text(encoding="utf-8"))]


def describe_hardware() -> str:
    """Processor, cores, memory and GPUs of this machine, as the system names them."""
    processor_text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model_match = re.search(r"^model name\s*:\s*(.+)$", processor_text, re.M)
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu_names = "no GPU"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        listed_names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")
        gpu_names = ", ".join(name for name in listed_names if name) or gpu_names
    processor_name = model_match.group(1).strip() if model_match else "unnamed processor"
    return f"{len(os.sched_getaffinity(0))} cores of {processor_name}, {memory_gib:.0f} GiB, {gpu_names}"


def digest_sources(*source_paths: str) -> str:
    """Digest of the sources in some files and folders of the repository: what they made is used again."""
    repository = REPOSITORY
    source_roots = [repository / source_path for source_path in source_paths]
    all_files = [
        source_file
        for source_root in source_roots
        for source_file in ([source_root] if source_root.is_file() else source_root.rglob("*"))
    ]
    source_files = sorted(
        source_file
        for source_file in all_files
        if source_file.suffix in _SOURCE_SUFFIXES and source_file.name != "README.md"
    )
    return digest_value(
        [(str(source_file.relative_to(repository)), digest_file(source_file)) for source_file in source_files]
    )


def _run_git(*arguments: str) -> str:
    git_command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(git_command, capture_output=True, text=True, check=True).stdout.strip()
