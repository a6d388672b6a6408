"""How a text file is written: its bytes as UTF-8, its separator, its use of quotation marks."""

import bz2
import codecs
import csv
import gzip
import lzma
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

import duckdb
import fsspec
import polars as pl
import pyarrow  # type: ignore[import-untyped]

from contracts.duckdb_connection import open_duckdb
from contracts.errors import UserError
from contracts.ingestion.config import SourceConfig

_SEPARATORS: Final = (",", ";", "\t", "|", "\x01", "^")
"""The last but one is what Hive writes."""
_BEFORE_HEADER: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:(?:\"?sep=.\"?)?[ \t]*(?:\r\n|\n|\r))+", re.IGNORECASE
)
_BLOCK_BYTES: Final = 1 << 22
_SAMPLE_BYTES: Final = 1 << 18
_COMMON_CHARACTERS: Final = {
    "gb18030": ("gb2312", range(0xB0, 0xD8)),
    "big5": ("big5", range(0xA4, 0xC7)),
    "shift_jis": ("shift_jis", range(0x81, 0x98)),
    "euc_jp": ("shift_jis", range(0x81, 0x98)),
    "cp949": ("euc_kr", range(0xB0, 0xC9)),
}
"""Encoding -> national set, and the first bytes of its everyday characters (level 1, kana, Hangul)."""
_MIN_COMMON_SHARE: Final = 0.85
_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


_PACKED_BEGINNINGS: Final = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip",
}
"""First bytes -> what a file is packed with, whatever its name says."""
_FOREIGN_BEGINNINGS: Final = {
    b"PAR1": "a Parquet file; set `format: parquet`",
    b"ARROW1": "an Arrow file; set `format: arrow`",
    b"\xd0\xcf\x11\xe0": "a spreadsheet; save its sheet as CSV (UTF-8) and give that",
    b"<!doctype": "a web page, perhaps one that asks to log in; download the data again",
    b"<html": "a web page, perhaps one that asks to log in; download the data again",
    b"<?xml": "XML; export it as CSV or JSON lines",
}


class TextFile(NamedTuple):
    """A text file, ready to be read."""

    path: Path
    """Uncompressed, in UTF-8: the user's own where it is so already."""
    encoding: str
    """What the user's file is in."""
    is_guessed: bool
    """Whether the encoding was guessed."""


class Dialect(NamedTuple):
    """How a delimited file is written."""

    separator: str
    has_quotes: bool
    """Whether quotation marks enclose cells, which may then hold separators and line breaks."""


def prepare_text_file(path: str, source: SourceConfig, scratch: Path) -> TextFile:
    """Makes an uncompressed UTF-8 file of any text file, in bounded memory.

    Raises:
        UserError: the file cannot be unpacked, or is not in the encoding that the config names.
    """
    plain_path = _unpack(path, scratch)
    _refuse_other_formats(plain_path, path)
    encoding, is_guessed = (source.encoding, False) if source.encoding else _detect_encoding(plain_path)
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii"):
        if source.encoding and not _is_utf8(plain_path):
            raise UserError(f"'{path}' is not {encoding}, as `encoding` says; set another, or leave it out")
        return TextFile(plain_path, "utf-8", False)
    recoded_path = scratch / f"{plain_path.name}.utf8"
    try:
        with (
            plain_path.open(encoding=encoding, newline="") as text,
            recoded_path.open("w", encoding="utf-8", newline="") as recoded,
        ):
            shutil.copyfileobj(text, recoded, _BLOCK_BYTES)
    except (UnicodeError, LookupError) as error:
        raise UserError(
            f"'{path}' cannot be read as {encoding}: {error}. Set `encoding` of this source, for example to "
            "utf-8, cp1252, gb18030 or shift_jis"
        ) from error
    return TextFile(recoded_path, encoding, is_guessed)


def detect_dialect(file: Path, source: SourceConfig, shown_path: str) -> Dialect:
    """Finds separator and use of quotation marks; what the config says holds.

    Raises:
        UserError: the file is empty.
    """
    with file.open(encoding="utf-8-sig", newline="") as text:
        sample = text.read(_SAMPLE_BYTES)
    if not sample.strip():
        raise UserError(f"'{shown_path}' is empty")
    if sample.lstrip().startswith("{"):
        raise UserError(f"'{shown_path}' is JSON, whatever its name says; set `format: jsonl`")
    header = sample.splitlines()[0]
    separator = source.separator or _find_separator(header, shown_path)
    if source.quotes is not None:
        return Dialect(separator, source.quotes)
    has_quoted_header = all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in header.split(separator))
    return Dialect(separator, has_quoted_header or _encloses_cells(file, separator))


def clean_lines(file: Path, scratch: Path) -> Path:
    """A delimited file that begins with its header and ends all lines alike: a copy where it has to be one.

    Spreadsheets write `sep=;` before the header, tools write blank lines there. Files that were put together
    on two systems end some lines with CR LF and some with LF, and old ones all with CR.
    """
    with file.open("rb") as stream:
        start = stream.read(_SAMPLE_BYTES)
        leading = _BEFORE_HEADER.match(start)
    num_leading = leading.end() if leading else 0
    num_cr_lf, num_lf, num_cr = _count_line_ends(file)
    is_mixed = 0 < num_cr_lf < num_lf
    has_only_cr = num_cr > 0 and num_lf == 0
    if not (num_leading or is_mixed or has_only_cr):
        return file
    cleaned_path = scratch / f"{file.name}.lines"
    with file.open("rb") as stream, cleaned_path.open("wb") as cleaned:
        stream.seek(num_leading)
        while block := stream.read(_BLOCK_BYTES):
            if block.endswith(b"\r"):
                block += stream.read(1)
            cleaned.write(block.replace(b"\r\n", b"\n").replace(b"\r", b"\n" if has_only_cr else b"\r"))
    return cleaned_path


def _count_line_ends(file: Path) -> tuple[int, int, int]:
    """Line ends that are CR LF, and all LF and CR."""
    num_cr_lf = num_lf = num_cr = 0
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            if block.endswith(b"\r"):
                block += stream.read(1)
            num_cr_lf += block.count(b"\r\n")
            num_lf += block.count(b"\n")
            num_cr += block.count(b"\r")
    return num_cr_lf, num_lf, num_cr


def format_read_csv(file: Path, dialect: Dialect) -> str:
    """The DuckDB table function that reads a delimited file, every cell as text.

    Broken lines are kept in the table `reject_errors`.
    """
    quote = '"' if dialect.has_quotes else ""
    return (
        f"read_csv({quote_sql(str(file))}, delim={quote_sql(dialect.separator)}, quote='{quote}', "
        f"escape='{quote}', header=true, all_varchar=true, store_rejects=true, rejects_limit=0, "
        "strict_mode=true, hive_partitioning=false, max_line_size=16777216, auto_detect=false, "
        f"columns={_format_columns(file, dialect)})"
    )


def quote_sql(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _format_columns(file: Path, dialect: Dialect) -> str:
    """The header's names, as DuckDB wants them; it would take a header of text for a row of values."""
    names = read_header(file, dialect)
    return "{" + ", ".join(f"{quote_sql(name)}: 'VARCHAR'" for name in names) + "}"


def read_header(file: Path, dialect: Dialect) -> list[str]:
    """The column names of a delimited file; one that stands twice gets a number behind it."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        if dialect.has_quotes:
            cells = next(csv.reader(text, delimiter=dialect.separator))
        else:
            cells = text.readline().rstrip("\r\n").split(dialect.separator)
    names: list[str] = []
    for number, cell in enumerate(cells):
        name = (cell or "").strip().strip("\ufeff").strip('"').strip() or f"column{number}"
        repeats = sum(other.lower() == name.lower() for other in names)
        names.append(f"{name}_{repeats}" if repeats else name)
    return names


def _find_separator(header: str, shown_path: str) -> str:
    counts = {separator: header.count(separator) for separator in _SEPARATORS}
    best = max(_SEPARATORS, key=lambda separator: counts[separator])
    if counts[best]:
        return best
    return "\t" if ".tsv" in shown_path else ","


def _encloses_cells(file: Path, separator: str) -> bool:
    """Whether quotation marks enclose cells, judged by which reading leaves fewer broken rows.

    A mark that encloses nothing (12" pan) swallows lines when it is taken for one that does, without an
    error: cells that hold line breaks then count as broken.
    """
    if not _holds_quotation_mark(file):
        return False
    num_marks, num_uneven = _count_uneven_lines(file, separator)
    if num_marks == 0:
        return False
    with open_duckdb() as connection:
        query = format_read_csv(file, Dialect(separator, has_quotes=True))
        try:
            # All is fetched, since DuckDB lists broken lines only when a query has ended.
            [(num_swallowed,)] = connection.execute(
                f"SELECT count(*) FROM {query} AS cells WHERE contains(cells::VARCHAR, chr(10))"
            ).fetchall()
            [(num_rejected,)] = connection.execute(
                "SELECT count(DISTINCT line) FROM reject_errors"
            ).fetchall()
        except duckdb.Error:
            return False
    num_broken = num_swallowed + num_rejected
    return bool(num_broken < num_uneven or num_broken == num_uneven == 0)


def _holds_quotation_mark(file: Path) -> bool:
    """Most logs hold none, and this is quicker than to look at their lines."""
    with file.open("rb") as text:
        return any(b'"' in block for block in iter(lambda: text.read(_BLOCK_BYTES), b""))


def _count_uneven_lines(file: Path, separator: str) -> tuple[int, int]:
    """Lines with quotation marks, and lines that have more or fewer separators than the header."""
    num_marks = num_uneven = 0
    expected: int | None = None
    for lines in _read_lines(file):
        numbers = lines.str.count_matches(separator, literal=True)
        expected = int(numbers[0]) if expected is None else expected
        num_uneven += int(((numbers != expected) & (lines != "")).sum())
        num_marks += int(lines.str.contains('"', literal=True).sum())
    return num_marks, num_uneven


def _read_lines(file: Path) -> Iterator[pl.Series]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        rest = ""
        while block := text.read(_BLOCK_BYTES):
            # Only real line ends count: Python would also split at form feeds and U+2028.
            *lines, rest = (rest + block).replace("\r\n", "\n").split("\n")
            if lines:
                yield pl.Series(lines, dtype=pl.String)
        if rest:
            yield pl.Series([rest], dtype=pl.String)


def _unpack(path: str, scratch: Path) -> Path:
    if "://" in path:
        local_path = scratch / Path(path).name
        with fsspec.open(path, "rb") as remote, local_path.open("wb") as local:
            shutil.copyfileobj(remote, local, _BLOCK_BYTES)
        return _unpack(str(local_path), scratch / "unpacked")
    suffix = Path(path).suffix.lower()
    if suffix not in _PACKED_BEGINNINGS.values():
        with Path(path).open("rb") as stream:
            start = stream.read(8)
        suffix = next((s for mark, s in _PACKED_BEGINNINGS.items() if start.startswith(mark)), "")
        if not suffix:
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
    return plain_path


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


def _detect_encoding(path: Path) -> tuple[str, bool]:
    """A file's encoding, and whether it is a guess."""
    with path.open("rb") as stream:
        start = stream.read(_SAMPLE_BYTES)
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return encoding, False
    # Text of the West in UTF-16 has a zero byte beside each letter.
    for first_byte, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if start[first_byte::2].count(0) > 0.4 * len(start):
            return encoding, True
    if _is_utf8(path):
        return "utf-8", False
    sample = _sample_foreign_lines(path)
    eastern = _guess_eastern_encoding(sample)
    if eastern and _decodes(path, eastern):
        return eastern, True
    # Of the single-byte encodings statistics tell little; this one is what spreadsheets of the West write.
    return "cp1252" if _decodes(path, "cp1252") else "latin-1", True


def _guess_eastern_encoding(sample: bytes) -> str | None:
    """The encoding of East Asia under which a text holds common characters; None where it is none of them.

    Each of them decodes most texts of the others, but into characters that nobody writes.
    """
    shares = {}
    for encoding, (national_set, first_bytes) in _COMMON_CHARACTERS.items():
        text = sample.decode(encoding, errors="replace")
        foreign = [character for character in text if not character.isascii()]
        num_common = sum(_is_common(character, national_set, first_bytes) for character in foreign)
        shares[encoding] = num_common / max(len(foreign), 1)
    best = max(shares, key=lambda encoding: shares[encoding])
    return best if shares[best] >= _MIN_COMMON_SHARE else None


def _is_common(character: str, national_set: str, first_bytes: range) -> bool:
    try:
        return character.encode(national_set)[0] in first_bytes
    except UnicodeEncodeError:
        return False


def _is_utf8(path: Path) -> bool:
    return _decodes(path, "utf-8")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as stream:
        try:
            while block := stream.read(_BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _sample_foreign_lines(path: Path) -> bytes:
    """The first lines that hold a byte beyond ASCII."""
    sample = b""
    with path.open("rb") as stream:
        for line in stream:
            if not line.isascii():
                sample += line
            if len(sample) > _SAMPLE_BYTES:
                break
    return sample
