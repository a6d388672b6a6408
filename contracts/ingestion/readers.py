"""Reads Parquet, CSV and JSON lines, local or remote, as they are."""

import glob
from pathlib import Path

import fsspec
import polars as pl

from contracts.errors import UserError
from contracts.ingestion.config import FileFormat, SourceConfig

_SUFFIXES: dict[str, FileFormat] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}


def read_source(source: SourceConfig) -> pl.DataFrame:
    """Reads every file of a source into one frame.

    Raises:
        UserError: nothing lies there, the format is unknown, or a file cannot be parsed.
    """
    paths = source_files(source.uri)
    frames = [_read_file(path, source.format or _format_of(path)) for path in paths]
    try:
        return pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
    except pl.exceptions.PolarsError as error:
        raise UserError(f"the files of {source.uri} do not fit together: {error}") from error


def source_files(uri: str) -> list[str]:
    """The files that a path, folder, glob or URL stands for, sorted.

    Raises:
        UserError: there are none.
    """
    if "://" in uri:
        files = _remote_files(uri)
    elif Path(uri).is_dir():
        files = sorted(str(p) for p in Path(uri).rglob("*") if p.is_file() and not p.name.startswith((".", "_")))
    else:
        files = sorted(glob.glob(uri, recursive=True))
    if not files:
        raise UserError(f"no file at '{uri}'; give a file, a folder or a glob that exists")
    return files


def _remote_files(uri: str) -> list[str]:
    try:
        fs, path = fsspec.core.url_to_fs(uri)
        found = fs.glob(path) if glob.has_magic(path) else fs.find(path) if fs.isdir(path) else [path]
    except (ImportError, OSError, ValueError) as error:
        raise UserError(
            f"cannot list '{uri}': {error}. Object stores need their fsspec driver beside this package: s3fs for "
            "s3://, gcsfs for gs://, adlfs for az://"
        ) from error
    return [fs.unstrip_protocol(p) for p in sorted(found) if not p.rsplit("/", 1)[-1].startswith((".", "_"))]


def _format_of(path: str) -> FileFormat:
    suffixes = [s.lower() for s in Path(path).suffixes if s.lower() != ".gz"]
    if not suffixes or suffixes[-1] not in _SUFFIXES:
        raise UserError(
            f"cannot tell the format of '{path}' from its name; set `format` to parquet, csv or jsonl in the config"
        )
    return _SUFFIXES[suffixes[-1]]


def _read_file(path: str, file_format: FileFormat) -> pl.DataFrame:
    try:
        if file_format == "parquet":
            with fsspec.open(path, "rb") as stream:
                return pl.read_parquet(stream)
        with fsspec.open(path, "rb", compression="infer") as stream:
            content = stream.read()
        if not content.strip():
            raise UserError(f"'{path}' is empty")
        if file_format == "csv":
            separator = "\t" if ".tsv" in path else ","
            # Every column as text: types are the contract's business, and an id like 007 must keep its zeros.
            return pl.read_csv(content, separator=separator, infer_schema=False)
        return pl.read_ndjson(content, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"cannot read '{path}' as {file_format}: {error}") from error
