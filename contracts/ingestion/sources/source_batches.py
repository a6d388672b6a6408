"""The rows of a source, in batches, as their files hold them."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import fsspec
import polars as pl

from contracts.duckdb_connection import open_duckdb
from contracts.errors import UserError
from contracts.ingestion.config import SourceConfig
from contracts.ingestion.sources.json_lines import drop_byte_order_mark, keep_sound_lines, open_json
from contracts.ingestion.sources.list_files import (
    QUERY_SCHEME,
    SourceFiles,
    detect_format,
    find_source_files,
    open_query,
)
from contracts.ingestion.sources.partitions import read_partitions, refuse_other_partition
from contracts.ingestion.sources.text_dialect import (
    Dialect,
    clean_lines,
    detect_dialect,
    format_read_csv,
    quote_sql,
    read_header,
    read_open_end,
    tell_names_apart,
)
from contracts.ingestion.sources.text_file import prepare_text_file
from contracts.tables import EVENTS, ITEMS

BATCH_ROWS: Final = 262_144
_MIN_ROWS_ABOVE: Final = 20
"""Below fewer rows a short last cell may be chance."""
_NO_LETTER: Final = re.compile(r"[\W_]")


class BrokenLine(NamedTuple):
    """A line of a text file that is no row."""

    file: str
    line: int
    """From 1; 0 where it is not known."""
    text: str
    reason: str


class SourceBatch(NamedTuple):
    """Some rows of one file."""

    frame: pl.DataFrame
    """Columns as the file names them; of text files all are text."""
    file: str


class OpenedSource:
    """A source whose files were found; its rows can be read any number of times."""

    def __init__(self, source: SourceConfig, scratch: Path, *, max_rows: int | None = None) -> None:
        """Finds the files.

        Args:
            source: the user's source.
            scratch: folder for what must be unpacked or recoded.
            max_rows: read about so many rows at most; None reads all.

        Raises:
            UserError: there is no file.
        """
        self._source = source
        self._scratch = scratch
        self._max_rows = max_rows
        is_query = source.uri.startswith(QUERY_SCHEME)
        self.files = SourceFiles((source.uri,)) if is_query else find_source_files(source.uri)
        self.notes: list[str] = []
        """What was found out of the files that a user may want to know."""
        self.broken_lines: list[BrokenLine] = []
        """Of the last reading."""
        self._prepared: dict[str, tuple[Path, Dialect]] = {}
        self._broken_json: dict[str, list[BrokenLine]] = {}
        self._first_names: dict[str, str] = {}
        """Name of a column without case and signs -> the one that the first file has."""

    def iterate_batches(self) -> Iterator[SourceBatch]:
        """Yields the rows of all files.

        Raises:
            UserError: a file cannot be read; the message names it.
        """
        self.broken_lines = []
        num_read = 0
        for path in self.files.paths:
            try:
                for batch in self._read_file(path):
                    if self._max_rows is not None and num_read + len(batch.frame) >= self._max_rows:
                        yield batch._replace(frame=batch.frame.head(self._max_rows - num_read))
                        return
                    num_read += len(batch.frame)
                    yield batch
            except UserError:
                raise
            # Arrow's errors are value errors, too.
            except (duckdb.Error, pl.exceptions.PolarsError, ValueError, OSError) as error:
                raise UserError(f"cannot read '{path}': {error}") from error
            except pl.exceptions.PanicException as error:
                raise UserError(
                    f"cannot read '{path}': it holds what Polars does not take: {error}"
                ) from error

    def _read_file(self, path: str) -> Iterator[SourceBatch]:
        if path.startswith(QUERY_SCHEME):
            return self._read_relation(open_query(path), path)
        file_format = self._source.format or detect_format(path)
        if file_format == "csv":
            return self._read_delimited(path)
        if file_format == "jsonl":
            return self._read_json(path)
        if file_format == "arrow":
            return self._read_arrow(path)
        return self._read_parquet(path)

    def _read_parquet(self, path: str) -> Iterator[SourceBatch]:
        connection = open_duckdb()
        if "://" in path:
            connection.register_filesystem(fsspec.core.url_to_fs(path)[0])
        rows = connection.sql(f"SELECT * FROM read_parquet({quote_sql(path)}, hive_partitioning=false)")
        return self._read_relation(rows, path)

    def _read_arrow(self, path: str) -> Iterator[SourceBatch]:
        with fsspec.open(path, "rb") as stream:
            is_file = stream.read(6) == b"ARROW1"
            stream.seek(0)
            # Arrow's streaming format has no such mark, and often the same ending.
            rows = pl.read_ipc(stream) if is_file else pl.read_ipc_stream(stream)
            for frame in rows.iter_slices(BATCH_ROWS):
                yield self._make_batch(frame, path)

    def _read_json(self, path: str) -> Iterator[SourceBatch]:
        file, _ = self._prepare(path)
        try:
            rows = open_json(file, path)
        except duckdb.InvalidInputException:
            sound = keep_sound_lines(file, Path(tempfile.mkdtemp(dir=self._scratch)), path)
            self._prepared[path] = (sound.file, Dialect(",", False))
            self._broken_json[path] = [
                BrokenLine(path, number, text, "the line is no JSON object") for number, text in sound.broken
            ]
            rows = open_json(sound.file, path)
        self.broken_lines += self._broken_json.get(path, [])
        return self._read_relation(rows, path)

    def _read_delimited(self, path: str) -> Iterator[SourceBatch]:
        file, dialect = self._prepare(path)
        connection = open_duckdb()
        rows = connection.sql(f"SELECT * FROM {format_read_csv(file, dialect)}")
        has_rows = False
        batches = self._read_relation(rows, path)
        if last_cell := read_open_end(file, dialect):
            batches = self._drop_cut_row(batches, read_header(file, dialect)[-1], last_cell, path)
        for batch in batches:
            has_rows = True
            yield self._drop_headers(batch, read_header(file, dialect))
        rejected = connection.execute(
            "SELECT line, any_value(csv_line), any_value(error_message) FROM reject_errors GROUP BY line "
            "ORDER BY line"
        ).fetchall()
        if rejected and not has_rows:
            header = dialect.separator.join(read_header(file, dialect))
            raise UserError(
                f"'{path}': none of its {len(rejected):,} lines fits its first one, which is taken for the "
                f"header: {header[:120]}. If the header stands lower, remove what stands before it; if cells "
                "are enclosed or divided in another way, set `separator` or `quotes`"
            )
        self.broken_lines += [
            BrokenLine(path, line, text or "", _explain_broken_line(message))
            for line, text, message in rejected
        ]

    def _drop_cut_row(
        self, batches: Iterator[SourceBatch], column: str, last_cell: str, path: str
    ) -> Iterator[SourceBatch]:
        """Batches without a last row whose last cell was cut off, where the cells above it tell.

        A file that ends without a line end may be whole, or end within an id that then is another one.
        """
        lengths = (0, 0, 0)
        waiting: SourceBatch | None = None
        for batch in batches:
            if waiting is not None:
                lengths = _add_lengths(lengths, waiting.frame[column])
                yield waiting
            waiting = batch
        if waiting is None:
            return
        num_others, least, greatest = _add_lengths(lengths, waiting.frame[column][:-1])
        is_last = (waiting.frame[column][-1] or "").strip() == last_cell
        if is_last and num_others >= _MIN_ROWS_ABOVE and len(last_cell) < least:
            if least == greatest:
                text = ", ".join(str(cell) for cell in waiting.frame.row(-1))
                self.broken_lines.append(BrokenLine(path, 0, text, "the file ends within its last cell"))
                waiting = waiting._replace(frame=waiting.frame[:-1])
            else:
                self._add_note(
                    f"'{path}' ends without a line end, and its last cell '{last_cell}' is shorter than all "
                    "above it: if the file was cut off, its last row is wrong"
                )
        yield waiting

    def _add_note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _drop_headers(self, batch: SourceBatch, names: list[str]) -> SourceBatch:
        """A batch without lines that are the header again, as in files that were put together."""
        is_header = batch.frame[:, 0].is_in([names[0], f"\ufeff{names[0]}"])
        if len(names) < 2 or not is_header.any():
            return batch
        is_header = (is_header & (batch.frame[:, 1].str.strip_chars() == names[1])).fill_null(False)
        text = ", ".join(names)
        self.broken_lines += [BrokenLine(batch.file, 0, text, "the header again")] * int(is_header.sum())
        return batch._replace(frame=batch.frame.filter(~is_header))

    def _prepare(self, path: str) -> tuple[Path, Dialect]:
        """A text file as uncompressed UTF-8, and its dialect."""
        if path not in self._prepared:
            folder = Path(tempfile.mkdtemp(dir=self._scratch))
            text_file = prepare_text_file(path, self._source, folder)
            if text_file.is_guessed:
                self.notes.append(
                    f"'{path}' is not UTF-8; it was read as {text_file.encoding}. Set `encoding` if letters "
                    "look wrong"
                )
            is_json = (self._source.format or detect_format(path)) == "jsonl"
            file, dialect = text_file.path, Dialect(",", False)
            if not is_json:
                file = clean_lines(file, folder)
                dialect = detect_dialect(file, self._source, path)
                self._note_repeated_names(read_header(file, dialect), path)
            elif not file.stat().st_size:
                raise UserError(f"'{path}' is empty")
            else:
                file = drop_byte_order_mark(file, folder)
            self._prepared[path] = (file, dialect)
        return self._prepared[path]

    def _note_repeated_names(self, names: list[str], path: str) -> None:
        suffixed = {f"{name}_1".lower() for name in names}
        repeated = [name for name in names if name.lower() in suffixed]
        for name in repeated:
            self._add_note(
                f"'{path}' names a column '{name.removesuffix('_1')}' twice; the first one is read, map "
                f"'{name}' if the second is meant"
            )

    def _read_relation(self, rows: duckdb.DuckDBPyRelation, path: str) -> Iterator[SourceBatch]:
        for record_batch in _write_odd_types_as_text(rows).to_arrow_reader(BATCH_ROWS):
            names = tell_names_apart(record_batch.schema.names)
            if names != record_batch.schema.names:
                # A join selects the columns of both tables.
                self._note_repeated_names(names, path)
            if record_batch.num_rows:
                yield self._make_batch(pl.DataFrame(record_batch.rename_columns(names)), path)

    def _make_batch(self, frame: pl.DataFrame, path: str) -> SourceBatch:
        frame = self._align_names(frame)
        partitions = {} if path.startswith(QUERY_SCHEME) else read_partitions(path)
        for name, value in partitions.items():
            if name not in frame.columns:
                frame = frame.with_columns(pl.lit(value, pl.String).alias(name))
            elif name in (*ITEMS.schema, *EVENTS.schema, *self._source.columns.values()):
                refuse_other_partition(frame[name], value, path)
        return SourceBatch(frame, path)

    def _align_names(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A frame whose columns are named as in the files before, which may differ in case and blanks."""
        renamed = {}
        for name in frame.columns:
            first_name = self._first_names.setdefault(_NO_LETTER.sub("", name.casefold()) or name, name)
            if first_name not in frame.columns:
                renamed[name] = first_name
        return frame.rename(renamed) if len({*renamed.values()}) == len(renamed) else frame


def _write_odd_types_as_text(rows: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Rows with maps as JSON objects, whose keys a config can name like fields, and intervals as text."""
    replaced = []
    for name, dtype in zip(rows.columns, map(str, rows.types), strict=True):
        column = '"' + name.replace('"', '""') + '"'
        if dtype.startswith("MAP("):
            replaced.append(f"to_json({column})::VARCHAR AS {column}")
        elif dtype.startswith(("INTERVAL", "BIT")):
            replaced.append(f"{column}::VARCHAR AS {column}")
    return rows.project(f"* REPLACE ({', '.join(replaced)})") if replaced else rows


def _add_lengths(lengths: tuple[int, int, int], cells: pl.Series) -> tuple[int, int, int]:
    """The number of cells, their least and their greatest length, with those of more cells."""
    if cells.is_empty():
        return lengths
    num_cells, least, greatest = lengths
    own = cells.str.len_chars().fill_null(0)
    own_least, own_greatest = pl.select(least=own.min(), greatest=own.max()).row(0)
    return (
        num_cells + len(cells),
        min(least, own_least) if num_cells else own_least,
        max(greatest, own_greatest),
    )


def _explain_broken_line(message: str) -> str:
    if "Number of Columns" in message:
        return "the line has more or fewer cells than the header"
    if "quote" in message.lower():
        return "the line has a quotation mark that does not close"
    return "the line cannot be read"
