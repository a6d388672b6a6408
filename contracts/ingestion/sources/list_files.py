"""The files that a source names: which count, which are left aside, and their digest."""

import glob
import hashlib
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import fsspec

from contracts.digests import digest_file, digest_value
from contracts.duckdb_connection import open_duckdb
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig, SourceConfig, SourceFormat

QUERY_SCHEME: Final = "duckdb:"
"""A source that begins so is a query, not a file."""
COMPRESSION_SUFFIXES: Final = (".gz", ".zst", ".bz2", ".xz", ".zip")
_FORMAT_OF_SUFFIX: Final[dict[str, SourceFormat]] = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".csv", ".tsv", ".tab", ".psv", ".txt", ".dat", ".out"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "arrow"),
}
_SPREADSHEET: Final = "a spreadsheet; save its sheet as CSV (UTF-8) and give that"
_ARCHIVE: Final = "an archive; unpack it into a folder and give that"
_DATABASE: Final = "a database; export its table as CSV"
_OTHER_FORMATS: Final = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), _SPREADSHEET),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar"), _ARCHIVE),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3", ".mdb", ".accdb"), _DATABASE),
    ".avro": "an Avro file; export it as Parquet, or give a query (`uri: duckdb:...`)",
    ".sql": "a dump of SQL statements; load it into its database, and export the table as CSV",
}
"""Ending -> what a file is that is not read."""
_FORMAT_MARKS: Final[dict[bytes, SourceFormat]] = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_ANY_SUFFIXES: Final = (".txt", ".dat", ".out")
"""Endings that tell nothing of a file."""
_ROTATED: Final = re.compile(r"^\.[\d_-]+$")
"""What stands behind a name where a file is one of a series: `log.csv.1`, `log.2025-03-01`."""
_NO_DATA: Final = re.compile(
    r"^(?:readme|license|licence|copying)\b|manifest(?:\.json)?$|^(?:thumbs\.db|desktop\.ini)$"
)
_LEFTOVER_SUFFIXES: Final = (
    ".crc",
    ".tmp",
    ".temp",
    ".bak",
    ".swp",
    ".part",
    ".crdownload",
    ".inprogress",
    ".md5",
    ".sha1",
    ".sha256",
)
_VERSION_KEYS: Final = (
    *("ETag", "etag", "md5Hash", "content_md5", "generation", "VersionId", "checksum"),
    *("mtime", "LastModified", "last_modified", "updated", "modified"),
)
"""What the stores of fsspec call that which changes with a file's content."""
_TABLE_FORMATS: Final = {"_delta_log": "Delta", "metadata": "Iceberg", ".hoodie": "Hudi"}


class SourceFiles(NamedTuple):
    """What a source names."""

    paths: tuple[str, ...]
    """Files to be read, sorted."""
    repeated: tuple[str, ...] = ()
    """Files that hold the same bytes as one of `paths`; they are left out."""
    empty: tuple[str, ...] = ()
    """Files without a byte; they are left out."""


def find_source_files(uri: str) -> SourceFiles:
    """Finds the files of a source, without empty ones and copies.

    Raises:
        UserError: there is none, or all are empty.
    """
    paths = list_source_files(uri)
    if "://" in uri:
        return SourceFiles(tuple(paths))
    empty = [path for path in paths if Path(path).stat().st_size == 0]
    filled = [path for path in paths if path not in empty]
    if not filled:
        what = f"every one of its {len(empty)} files" if len(empty) > 1 else "it"
        raise UserError(f"'{uri}' is empty: {what} holds no byte")
    repeated = _find_repeated(filled)
    return SourceFiles(tuple(path for path in filled if path not in repeated), tuple(repeated), tuple(empty))


def list_source_files(uri: str) -> list[str]:
    """Lists the files that a path, folder, glob or URL stands for, sorted.

    Hidden files and folders, those that begin with `_`, and leftovers of tools are not among them.

    Raises:
        UserError: there are none, or the folder is a table of a format whose log says which files count.
    """
    if "://" in uri:
        file_paths = _list_remote_files(uri)
    elif Path(uri).is_dir():
        _refuse_table_formats(Path(uri))
        file_paths = [
            str(path)
            for path in sorted(Path(uri).rglob("*"))
            if path.is_file() and _is_data(path.relative_to(uri).parts)
        ]
    elif Path(uri).is_file():
        # Brackets and stars may be part of a name.
        file_paths = [uri]
    else:
        found_paths = sorted(glob.glob(uri, recursive=True))
        num_fixed = _count_fixed_parts(uri)
        file_paths = [path for path in found_paths if Path(path).is_file()]
        if glob.has_magic(uri):
            file_paths = [path for path in file_paths if _is_data(Path(path).parts[num_fixed:])]
    if not file_paths:
        raise UserError(f"no file at '{uri}'; give a file, a folder or a glob that exists")
    return file_paths


def detect_format(path: str) -> SourceFormat:
    """Tells a file's format from its name, or from its first bytes where the name tells nothing.

    Raises:
        UserError: neither tells, or it is a format that is not read.
    """
    suffixes = _list_suffixes(path)
    if not suffixes or suffixes[-1] in _ANY_SUFFIXES:
        return _detect_format_of_content(path)
    if what := _OTHER_FORMATS.get(suffixes[-1]):
        raise UserError(f"'{path}' is {what}")
    name = _FORMAT_OF_SUFFIX.get(suffixes[-1])
    if name is None:
        raise UserError(
            f"cannot tell the format of '{path}' from its name; set `format` to parquet, csv, jsonl or arrow "
            "in the config, or give a glob that leaves the file out"
        )
    if name in ("parquet", "arrow") and Path(path).suffix.lower() in COMPRESSION_SUFFIXES:
        raise UserError(f"'{path}' is a {name} file that is packed once more; unpack it and give that")
    return name


def _list_suffixes(path: str) -> list[str]:
    """The endings of a name that tell a format; those of the only file in an archive where it has none."""
    all_suffixes = (suffix.lower() for suffix in Path(path).suffixes)
    suffixes = [s for s in all_suffixes if s not in COMPRESSION_SUFFIXES and not _ROTATED.match(s)]
    if not suffixes and path.lower().endswith(".zip") and "://" not in path and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        suffixes = _list_suffixes(names[0]) if len(names) == 1 else []
    return suffixes


def _detect_format_of_content(path: str) -> SourceFormat:
    """Warehouses unload into files such as `0000_part_00`."""
    with fsspec.open(path, "rb") as stream:
        start = stream.read(64)
    for mark, name in _FORMAT_MARKS.items():
        if start.startswith(mark):
            return name
    return "jsonl" if start.lstrip().startswith((b"{", b"[")) else "csv"


def digest_data(config: DataConfig) -> str:
    """Digests the user's data, so that caches know when it changed.

    The content counts for local files and queries. For a remote file it is what the store says: etag, time,
    size. Where it says neither etag nor time, the content counts as well: size alone would hide a change.

    Raises:
        UserError: a source names no file, or its query fails.
    """
    return digest_value([_describe_state(source) for source in (config.items, config.events)])


def open_query(uri: str) -> duckdb.DuckDBPyRelation:
    """Opens a source that is a query: statements, of which the last selects.

    Raises:
        UserError: DuckDB cannot run it.
    """
    statements = duckdb.extract_statements(uri.removeprefix(QUERY_SCHEME))
    connection = open_duckdb()
    try:
        for statement in statements[:-1]:
            connection.execute(statement)
        relation: duckdb.DuckDBPyRelation | None = connection.sql(statements[-1].query)
    except (duckdb.Error, IndexError) as error:
        raise UserError(f"the query '{uri}' fails: {error}") from error
    if relation is None:
        raise UserError(f"the query '{uri}' selects nothing; its last statement must be a SELECT")
    return relation


def _describe_state(source: SourceConfig) -> object:
    if source.uri.startswith(QUERY_SCHEME):
        rows = open_query(source.uri)
        counted = rows.aggregate("count(*), sum(hash(COLUMNS(*))::HUGEINT)")
        return [source.uri, *map(str, counted.fetchall()[0])]
    return [_describe_file_state(path) for path in list_source_files(source.uri)]


def _describe_file_state(path: str) -> object:
    if "://" not in path:
        return digest_file(Path(path))
    file_system, inner_path = fsspec.core.url_to_fs(path)
    object_info = file_system.info(inner_path)
    marks = {key: str(object_info[key]) for key in _VERSION_KEYS if object_info.get(key) is not None}
    if not marks:
        with file_system.open(inner_path, "rb") as stream:
            marks = {"sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
    return marks | {"name": str(object_info["name"]), "size": str(object_info.get("size"))}


def _find_repeated(paths: Sequence[str]) -> list[str]:
    """Files whose bytes an earlier one holds, too. Only files of one size are read.

    Folders such as `day=2025-03-01` are columns: files of different ones hold different rows.
    """
    paths_of_size: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for path in paths:
        partitions = tuple(part for part in Path(path).parts[:-1] if "=" in part)
        paths_of_size.setdefault((Path(path).stat().st_size, partitions), []).append(path)
    repeated = []
    for same_size in paths_of_size.values():
        known_digests: set[str] = set()
        for path in same_size if len(same_size) > 1 else ():
            digest = digest_file(Path(path))
            if digest in known_digests:
                repeated.append(path)
            known_digests.add(digest)
    return repeated


def _refuse_table_formats(folder: Path) -> None:
    for marker, format_name in _TABLE_FORMATS.items():
        for found in sorted(folder.rglob(marker)):
            if marker == "metadata" and not list(found.glob("*.metadata.json")):
                continue
            raise UserError(
                f"'{found.parent}' is a {format_name} table: its log says which files count, and old ones "
                f'still lie there. Export it, or name what counts: `uri: "duckdb:select * from ..."`'
            )


def _count_fixed_parts(uri: str) -> int:
    """Parts of a path before its first wildcard: what the user named, hidden or not."""
    parts = Path(uri).parts
    return next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))


def _is_data(parts: Sequence[str]) -> bool:
    """Whether no part of a path is hidden, temporary or a leftover."""
    is_plain = not any(part.startswith((".", "_")) for part in parts)
    is_leftover = parts[-1].endswith(("~", *_LEFTOVER_SUFFIXES)) or _NO_DATA.search(parts[-1].lower())
    return is_plain and not is_leftover


def _list_remote_files(uri: str) -> list[str]:
    try:
        file_system, inner_path = fsspec.core.url_to_fs(uri)
        remote_paths = (
            file_system.glob(inner_path)
            if glob.has_magic(inner_path)
            else file_system.find(inner_path)
            if file_system.isdir(inner_path)
            else [inner_path]
        )
    except (ImportError, OSError, ValueError) as error:
        raise UserError(
            f"cannot list '{uri}': {error}. Object stores need their fsspec driver beside this package: s3fs "
            "for s3://, gcsfs for gs://, adlfs for az://"
        ) from error
    root_parts = _count_fixed_parts(inner_path)
    return [
        file_system.unstrip_protocol(path)
        for path in sorted(remote_paths)
        if path == inner_path or _is_data(Path(path).parts[root_parts:])
    ]
