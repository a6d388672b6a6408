"""The audit log: what was decided and done to the experiments, one JSON line each; only ever appended to."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

AUDIT_LOG: Final = "decisions.jsonl"
"""Its name in serving's folder."""


def append_audit_line(state: Path, entry: dict[str, Any]) -> None:
    """Adds a line; `time` is the moment unless the entry says one."""
    state.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": datetime.now(UTC).isoformat(), **entry}, sort_keys=True) + "\n"
    # One write of one line: runs that end together do not mix theirs.
    descriptor = os.open(state / AUDIT_LOG, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        # After half a line, which a crash left, this one would be lost with it.
        is_cut_off = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        content = ("\n" if is_cut_off else "").encode() + line.encode()
        if os.write(descriptor, content) != len(content):
            raise OSError(f"{state / AUDIT_LOG} could not be written; is the disk full?")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_audit_lines(state: Path) -> list[dict[str, Any]]:
    """All whole lines, oldest first; half a line that a crash left is passed over."""
    audit_path = state / AUDIT_LOG
    if not audit_path.is_file():
        return []
    entries: list[dict[str, Any]] = []
    for line in audit_path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries
