"""How a delimited file is written: its lines, its separator, its use of quotation marks."""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

import duckdb
import polars as pl

from contracts.duckdb_connection import open_duckdb
from contracts.errors import UserError
from contracts.ingestion.config import SourceConfig

_SEPARATORS: Final = (",", ";", "\t", "|", "\x01", "^", "~", "\u00a6", "::", "||")
"""Hive writes the fifth, MovieLens the last but one."""
_MIN_BLANKS: Final = 2
"""A header of fewer is a name of several words."""
_LINES_LOOKED_AT: Final = 50
_MOST_LINES: Final = 0.9
"""Share of the lines that must hold as many separators as the header."""
_ROW_NAME: Final = "row"
_BEFORE_HEADER: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:(?:\"?sep=.\"?)?[ \t]*(?:\r\n|\n|\r))+", re.IGNORECASE
)
_BLOCK_BYTES: Final = 1 << 22
_SAMPLE_BYTES: Final = 1 << 18
_TAIL_BYTES: Final = 1 << 16
"""No line that matters is longer."""


class Dialect(NamedTuple):
    """How a delimited file is written."""

    separator: str
    has_quotes: bool
    """Whether quotation marks enclose cells, which may then hold separators and line breaks."""
    quote: str = '"'
    escape: str = '"'
    """What stands before a mark that is part of a cell: another one, or what MySQL writes, a backslash."""
    has_row_names: bool = False
    """Whether rows begin with a cell that the header does not name, as R writes them."""


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
    lines = sample.splitlines()[: _LINES_LOOKED_AT + 1]
    separator = source.separator or _find_separator(lines, shown_path)
    dialect = _find_marks(file, lines[0], separator, source.quotes)
    return dialect._replace(has_row_names=_tell_row_names(lines, dialect))


def _find_marks(file: Path, header: str, separator: str, has_quotes: bool | None) -> Dialect:
    if has_quotes is not None:
        return Dialect(separator, has_quotes)
    for quote in ('"', "'"):
        cells = header.split(separator)
        if all(len(cell) > 1 and cell[0] == cell[-1] == quote for cell in cells):
            return _find_escape(file, Dialect(separator, True, quote, quote))
    return _find_quotes(file, separator)


def _tell_row_names(lines: Sequence[str], dialect: Dialect) -> bool:
    """Whether each row has one cell more than the header, and the first ones count the rows.

    Other cells there may as well be values, of a column whose name is missing at the header's end.
    """
    header, *rows = (_split_line(line, dialect) for line in lines if line)
    has_more = len(rows) > 1 and all(len(row) == len(header) + 1 for row in rows)
    if not has_more or not any(row[-1].strip() for row in rows):
        # Nothing behind the last separator of all lines is no cell.
        return False
    counted = [row[0].strip('"') for row in rows]
    return any(counted == [str(first + n) for n in range(len(rows))] for first in (0, 1))


def _split_line(line: str, dialect: Dialect) -> list[str]:
    if not dialect.has_quotes or len(dialect.separator) > 1:
        return line.split(dialect.separator)
    escape = dialect.escape if dialect.escape != dialect.quote else None
    cells = csv.reader([line], delimiter=dialect.separator, quotechar=dialect.quote, escapechar=escape)
    return next(cells, [])


def clean_lines(file: Path, scratch: Path) -> Path:
    """A delimited file that begins with its header and ends all lines alike: a copy where it has to be one.

    Spreadsheets write `sep=;` before the header, tools write blank lines and comments there. Files that were
    put together on two systems end some lines with CR LF and some with LF, and old ones all with CR.
    """
    with file.open("rb") as stream:
        start = stream.read(_SAMPLE_BYTES)
        leading = _BEFORE_HEADER.match(start)
    num_leading = leading.end() if leading else 0
    num_leading += _measure_comments(start[num_leading:])
    num_cr_lf, num_lf, num_cr = _count_line_ends(file)
    # Python on Windows ends lines with CR CR LF where a file is opened without `newline=""`.
    is_mixed = 0 < num_cr_lf < max(num_lf, num_cr)
    has_only_cr = num_cr > 0 and num_lf == 0
    if not (num_leading or is_mixed or has_only_cr):
        return file
    cleaned_path = scratch / f"{file.name}.lines"
    with file.open("rb") as stream, cleaned_path.open("wb") as cleaned:
        stream.seek(num_leading)
        for block in _read_blocks(stream):
            lines = block.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n")
            cleaned.write(lines.replace(b"\r", b"\n") if has_only_cr else lines)
    return cleaned_path


def _measure_comments(start: bytes) -> int:
    """Bytes of the lines before the header that begin with #. The last one may be the header itself."""
    lines = start.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)
    comments = list(itertools.takewhile(lambda line: line.startswith(b"#") or not line.strip(), lines))
    if not comments or len(comments) == len(lines):
        return 0
    num_cells = [max(line.count(separator.encode()) for separator in _SEPARATORS) for line in lines]
    if num_cells[len(comments) - 1] == num_cells[len(comments)] > 0:
        comments.pop()
    has_mark = start.startswith(codecs.BOM_UTF8) and comments
    return sum(map(len, comments)) + (len(codecs.BOM_UTF8) if has_mark else 0)


def _read_blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Some megabytes at once, none of which ends within a line end."""
    while block := stream.read(_BLOCK_BYTES):
        while block.endswith(b"\r") and (following := stream.read(1)):
            block += following
        yield block


def _count_line_ends(file: Path) -> tuple[int, int, int]:
    """Line ends that are CR LF, and all LF and CR."""
    num_cr_lf = num_lf = num_cr = 0
    with file.open("rb") as stream:
        for block in _read_blocks(stream):
            num_cr_lf += block.count(b"\r\n")
            num_lf += block.count(b"\n")
            num_cr += block.count(b"\r")
    return num_cr_lf, num_lf, num_cr


def format_read_csv(file: Path, dialect: Dialect) -> str:
    """The DuckDB table function that reads a delimited file, every cell as text.

    Broken lines are kept in the table `reject_errors`.
    """
    quote, escape = (dialect.quote, dialect.escape) if dialect.has_quotes else ("", "")
    return (
        f"read_csv({quote_sql(str(file))}, delim={quote_sql(dialect.separator)}, quote={quote_sql(quote)}, "
        f"escape={quote_sql(escape)}, header=true, all_varchar=true, store_rejects=true, rejects_limit=0, "
        "strict_mode=true, hive_partitioning=false, compression='none', max_line_size=16777216, "
        f"auto_detect=false, columns={_format_columns(file, dialect)})"
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
        if dialect.has_quotes and len(dialect.separator) == 1:
            cells = next(csv.reader(text, delimiter=dialect.separator, quotechar=dialect.quote))
        else:
            cells = text.readline().rstrip("\r\n").split(dialect.separator)
    if dialect.has_row_names:
        cells = [_ROW_NAME, *cells]
    return tell_names_apart(
        (cell or "").strip().strip("\ufeff").strip('"').strip() or f"column{number}"
        for number, cell in enumerate(cells)
    )


def tell_names_apart(written: Iterable[str]) -> list[str]:
    """Names of which one that stands twice, in any case, has a number behind it."""
    names: list[str] = []
    for name in written:
        repeats = sum(other.lower() == name.lower() for other in names)
        names.append(f"{name}_{repeats}" if repeats else name)
    return names


def read_open_end(file: Path, dialect: Dialect) -> str:
    """The last cell of a delimited file whose last line has all cells but no end; empty elsewhere."""
    with file.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(size - _TAIL_BYTES, 0))
        tail = stream.read()
    last_line = re.split(rb"[\r\n]", tail)[-1].decode("utf-8", errors="replace")
    num_cells = last_line.count(dialect.separator) + 1
    if dialect.has_quotes and last_line.endswith(dialect.quote):
        return ""
    if num_cells < len(read_header(file, dialect)) or len(last_line) == len(tail):
        return ""
    return last_line.rpartition(dialect.separator)[2].strip()


def _find_separator(lines: Sequence[str], shown_path: str) -> str:
    """The separator of which the header has most, among those that stand as often in most other lines."""
    header, rows = lines[0], [line for line in lines[1:] if line]
    counts = {separator: header.count(separator) for separator in _SEPARATORS if separator in header}
    if counts.get("|") == 2 * counts.get("||", 0):
        del counts["|"]
    if not counts:
        return " " if _are_parted_by_blanks(lines) else "\t" if ".tsv" in shown_path else ","

    def rank(separator: str) -> tuple[bool, int]:
        num_even = sum(row.count(separator) == counts[separator] for row in rows)
        return num_even >= _MOST_LINES * len(rows), counts[separator]

    return max(counts, key=rank)


def _are_parted_by_blanks(lines: Sequence[str]) -> bool:
    """Whether single blanks part the cells of all lines, as R writes them."""
    dialect = Dialect(" ", any('"' in line for line in lines))
    header, *rows = (_split_line(line, dialect) for line in lines if line)
    lengths = {len(row) for row in rows}
    is_even = len(lengths) == 1 and lengths <= {len(header), len(header) + 1}
    return is_even and len(header) > _MIN_BLANKS and all(cell.strip() for cell in header)


def _find_quotes(file: Path, separator: str) -> Dialect:
    """Whether quotation marks enclose cells, judged by which reading leaves fewer broken rows.

    A mark that encloses nothing (12" pan) swallows lines when it is taken for one that does, without an
    error: cells that hold whole lines count as broken.
    """
    without_quotes = Dialect(separator, has_quotes=False)
    if not _holds_bytes(file, b'"'):
        return without_quotes
    num_marks, num_uneven = _count_uneven_lines(file, separator)
    if num_marks == 0:
        return without_quotes
    dialect = _find_escape(file, Dialect(separator, has_quotes=True))
    num_broken = _count_broken_rows(file, dialect)
    if num_broken is not None and (num_broken < num_uneven or num_broken == num_uneven == 0):
        return dialect
    return without_quotes


def _find_escape(file: Path, dialect: Dialect) -> Dialect:
    """The dialect with a backslash before marks within cells, where that leaves fewer broken rows."""
    if not _holds_bytes(file, b"\\" + dialect.quote.encode()):
        return dialect
    escaped = dialect._replace(escape="\\")
    num_doubled, num_escaped = (_count_broken_rows(file, d) for d in (dialect, escaped))
    if num_escaped is None or (num_doubled is not None and num_doubled <= num_escaped):
        return dialect
    return escaped


def _count_broken_rows(file: Path, dialect: Dialect) -> int | None:
    """Rows that a dialect breaks, and rows in which it swallows others; None where it reads nothing."""
    with open_duckdb() as connection:
        query = format_read_csv(file, dialect)
        try:
            # All is fetched, since DuckDB lists broken lines only when a query has ended.
            [(num_swallowed,)] = connection.execute(
                f"SELECT count(*) FROM {query} WHERE {_match_swallowed_lines(file, dialect)}"
            ).fetchall()
            [(num_rejected,)] = connection.execute(
                "SELECT count(DISTINCT line) FROM reject_errors"
            ).fetchall()
        except duckdb.Error:
            return None
    return int(num_swallowed + num_rejected)


def _match_swallowed_lines(file: Path, dialect: Dialect) -> str:
    """An SQL condition: a cell holds a line break, and as many separators as a line. Texts of several lines
    seldom do; from a mark to the next one below it there are as many."""
    names = read_header(file, dialect)
    separator = quote_sql(dialect.separator)
    conditions = []
    for name in names:
        cell = '"' + name.replace('"', '""') + '"'
        num_separators = f"length({cell}) - length(replace({cell}, {separator}, ''))"
        conditions.append(f"(contains({cell}, chr(10)) AND {num_separators} >= {len(names) - 1})")
    return " OR ".join(conditions)


def _holds_bytes(file: Path, wanted: bytes) -> bool:
    """Most logs hold no quotation mark, and this is quicker than to look at their lines."""
    with file.open("rb") as text:
        return any(wanted in block for block in iter(lambda: text.read(_BLOCK_BYTES), b""))


def _count_uneven_lines(file: Path, separator: str) -> tuple[int, int]:
    """Lines with quotation marks, and lines that have more or fewer separators than the header."""
    num_marks = num_uneven = 0
    expected: int | None = None
    for lines in read_lines(file):
        numbers = lines.str.count_matches(separator, literal=True)
        expected = int(numbers[0]) if expected is None else expected
        num_uneven += int(((numbers != expected) & (lines != "")).sum())
        num_marks += int(lines.str.contains('"', literal=True).sum())
    return num_marks, num_uneven


def read_lines(file: Path) -> Iterator[pl.Series]:
    """The lines of a file, some megabytes at once."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        rest = ""
        while block := text.read(_BLOCK_BYTES):
            # Only real line ends count: Python would also split at form feeds and U+2028.
            *lines, rest = (rest + block).replace("\r\n", "\n").split("\n")
            if lines:
                yield pl.Series(lines, dtype=pl.String)
        if rest:
            yield pl.Series([rest], dtype=pl.String)
