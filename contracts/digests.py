"""Content digests of values, files, artifacts and of the code itself."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

LINEAGE_FILE = "lineage.json"
_CODE_ROOMS = ("contracts", "models", "feature_repo", "serving", "monitoring", "simulation", "components")
_CODE_SUFFIXES = {".py", ".yaml", ".md", ".txt"}


def digest_value(value: Any) -> str:
    """Digest (16 hex digits) of a JSON-like value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_file(path: Path) -> str:
    """Digest (64 hex digits) of a file's content, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_tree(folder: Path) -> str:
    """Digest (16 hex digits) of a folder's files and their names, without its lineage file."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != LINEAGE_FILE)
    return digest_value([(str(p.relative_to(folder)), digest_file(p)) for p in files])


@cache
def code_version() -> str:
    """Digest (12 hex digits) of the installed library's sources, prompts and handbooks."""
    root = Path(__file__).parent.parent
    files = sorted(
        path
        for room in _CODE_ROOMS
        for path in (root / room).rglob("*")
        if path.suffix in _CODE_SUFFIXES and path.name != "README.md"
    )
    return digest_value([(str(p.relative_to(root)), digest_file(p)) for p in files])[:12]
