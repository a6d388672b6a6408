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
    """Digests a JSON-like value (16 hex digits); the order of keys does not matter."""
    canonical_json = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical_json.encode()).hexdigest()[:16]


def digest_file(path: Path) -> str:
    """Digests a file's content, read in blocks (64 hex digits)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """Digests a folder's files and their names, without its lineage file (16 hex digits)."""
    file_paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != LINEAGE_FILE)
    return digest_value([(str(p.relative_to(folder)), digest_file(p)) for p in file_paths])


@cache
def compute_code_version() -> str:
    """Digests the installed library's sources, prompts and handbooks (12 hex digits)."""
    library_root = Path(__file__).parent.parent
    source_paths = sorted(
        path
        for room in _CODE_ROOMS
        for path in (library_root / room).rglob("*")
        if path.suffix in _CODE_SUFFIXES and path.name != "README.md"
    )
    return digest_value([(str(p.relative_to(library_root)), digest_file(p)) for p in source_paths])[:12]
