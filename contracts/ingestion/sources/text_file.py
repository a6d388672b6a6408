"""A text file of any packing and encoding, made plain: unpacked, and in UTF-8."""

import bz2
import codecs
import gzip
import lzma
import shutil
import zipfile
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

import fsspec
import pyarrow  # type: ignore[import-untyped]

from contracts.errors import UserError
from contracts.ingestion.config import SourceConfig
from contracts.ingestion.sources.text_encoding import detect_encoding, is_utf8, open_text

_BLOCK_BYTES: Final = 1 << 22
_PACKED_BEGINNINGS: Final = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip",
}
"""First bytes -> what a file is packed with, whatever its name says."""
_SQL_DUMP: Final = "a dump of SQL statements; load it into its database, and export the table as CSV"
_FOREIGN_BEGINNINGS: Final = {
    b"PAR1": "a Parquet file; set `format: parquet`",
    b"ARROW1": "an Arrow file; set `format: arrow`",
    b"\xd0\xcf\x11\xe0": "a spreadsheet; save its sheet as CSV (UTF-8) and give that",
    b"<!doctype": "a web page, perhaps one that asks to log in; download the data again",
    b"<html": "a web page, perhaps one that asks to log in; download the data again",
    b"<table": "a table of a web page; open it in a spreadsheet, and save it as CSV (UTF-8)",
    b"<?xml": "XML; export it as CSV or JSON lines",
    b"Obj\x01": "an Avro file; export it as Parquet, or give a query (`uri: duckdb:...`)",
    b"SQLite format 3": "a database of SQLite; export its table as CSV",
    b"-- mysql dump": _SQL_DUMP,
    b"-- mariadb dump": _SQL_DUMP,
    b"--\n-- postgresql": _SQL_DUMP,
    b"insert into ": _SQL_DUMP,
    b"create table ": _SQL_DUMP,
}


class TextFile(NamedTuple):
    """A text file, ready to be read."""

    path: Path
    """Uncompressed, in UTF-8: the user's own where it is so already."""
    encoding: str
    """What the user's file is in."""
    is_guessed: bool
    """Whether the encoding was guessed."""


def prepare_text_file(path: str, source: SourceConfig, scratch: Path) -> TextFile:
    """Makes an uncompressed UTF-8 file of any text file, in bounded memory.

    Raises:
        UserError: the file cannot be unpacked, or is not in the encoding that the config names.
    """
    plain_path = _unpack(path, scratch)
    _refuse_other_formats(plain_path, path)
    encoding, is_guessed = (source.encoding, False) if source.encoding else detect_encoding(plain_path)
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii"):
        if source.encoding and not is_utf8(plain_path):
            raise UserError(f"'{path}' is not {encoding}, as `encoding` says; set another, or leave it out")
        return TextFile(plain_path, "utf-8", False)
    recoded_path = scratch / f"{plain_path.name}.utf8"
    try:
        with (
            open_text(plain_path, encoding) as text,
            recoded_path.open("w", encoding="utf-8", newline="") as recoded,
        ):
            shutil.copyfileobj(text, recoded, _BLOCK_BYTES)
    except (UnicodeError, LookupError) as error:
        raise UserError(
            f"'{path}' cannot be read as {encoding}: {error}. Set `encoding` of this source, for example to "
            "utf-8, cp1252, gb18030 or shift_jis"
        ) from error
    return TextFile(recoded_path, encoding, is_guessed)


def _unpack(path: str, scratch: Path, *, is_inner: bool = False) -> Path:
    if "://" in path:
        local_path = scratch / Path(path).name
        with fsspec.open(path, "rb") as remote, local_path.open("wb") as local:
            shutil.copyfileobj(remote, local, _BLOCK_BYTES)
        return _unpack(str(local_path), scratch / "unpacked")
    with Path(path).open("rb") as stream:
        start = stream.read(64)
    # Browsers unpack what they load, and keep its name.
    named = "" if start.isascii() and b"\x00" not in start else Path(path).suffix.lower()
    suffix = next((s for mark, s in _PACKED_BEGINNINGS.items() if start.startswith(mark)), named)
    if suffix not in _PACKED_BEGINNINGS.values():
        return Path(path)
    scratch.mkdir(parents=True, exist_ok=True)
    plain_path = scratch / f"{Path(path).stem}.plain"
    try:
        with _open_compressed(path, suffix) as packed, plain_path.open("wb") as plain:
            shutil.copyfileobj(packed, plain, _BLOCK_BYTES)
    except UserError:
        raise
    # Each codec has errors of its own: zlib.error, LZMAError, BadZipFile, a password that is missing ...
    except Exception as error:
        raise UserError(
            f"'{path}' cannot be unpacked: {error}. It may be cut off; export it again"
        ) from error
    # Servers pack again what is packed already.
    return plain_path if is_inner else _unpack(str(plain_path), scratch / "inner", is_inner=True)


def _open_compressed(path: str, suffix: str) -> IO[bytes]:
    if suffix == ".zip":
        archive = zipfile.ZipFile(path)
        names = [name for name in archive.namelist() if not name.startswith("__MACOSX") and name[-1] != "/"]
        if "[Content_Types].xml" in names:
            raise UserError(f"'{path}' is a spreadsheet; save its sheet as CSV (UTF-8) and give that")
        if len(names) != 1:
            raise UserError(
                f"'{path}' holds {len(names)} files ({', '.join(names[:3])}), not one; unpack it into a "
                "folder and give that"
            )
        return archive.open(names[0])
    if suffix == ".zst":
        return cast(IO[bytes], pyarrow.input_stream(path, compression="zstd"))
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return cast(IO[bytes], bz2.open(path, "rb") if suffix == ".bz2" else lzma.open(path, "rb"))


def _refuse_other_formats(file: Path, shown_path: str) -> None:
    """Refuses what is no text of rows, by its first bytes.

    Raises:
        UserError: the message says what the file is.
    """
    with file.open("rb") as stream:
        start = stream.read(64).removeprefix(codecs.BOM_UTF8).lstrip()
    for beginning, what in _FOREIGN_BEGINNINGS.items():
        # Tags may be in capitals; a format's mark is exact, and `par1` may be the name of a column.
        if start.startswith(beginning) or start.lower().startswith(beginning):
            raise UserError(f"'{shown_path}' is {what}")
