"""Files of JSON objects: their rows, and which lines are sound where one of them is not."""

import codecs
import shutil
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import polars as pl

from contracts.duckdb_connection import open_duckdb
from contracts.errors import UserError
from contracts.ingestion.sources.text_dialect import quote_sql, read_lines

_BRACKETS: Final = ("[", "]", "[]", ",")
"""Lines of an array that hold no object."""


class SoundLines(NamedTuple):
    """A file of JSON objects without what is broken."""

    file: Path
    broken: tuple[tuple[int, str], ...]
    """Number, from 1, and text of the other lines."""


def open_json(file: Path, shown_path: str) -> duckdb.DuckDBPyRelation:
    """The rows of a JSON file, whose objects stand a line each or in one array, every value as text.

    Raises:
        InvalidInputException: it is no JSON throughout.
        UserError: it is written column by column, or its names apart from its values.
    """
    connection = open_duckdb()
    options = "format='auto', hive_partitioning=false, compression='none', maximum_object_size=67108864"
    # Names first, then every value as the text that stands there: numbers keep their digits.
    described = connection.sql(
        f"DESCRIBE SELECT * FROM read_json({quote_sql(str(file))}, {options}, maximum_depth=1, "
        "sample_size=-1)"
    ).fetchall()
    columns = ", ".join(f"{quote_sql(name)}: 'VARCHAR'" for name, *_ in described)
    rows = connection.sql(
        f"SELECT * FROM read_json({quote_sql(str(file))}, {options}, columns={{{columns}}})"
    )
    first_row = rows.limit(1).fetchall()
    is_by_column = first_row and all(str(cell).startswith('{"0":') for cell in first_row[0])
    if is_by_column or set(rows.columns) == {"columns", "index", "data"}:
        raise UserError(
            f"'{shown_path}' is no list of rows, but another form of pandas: write an object a row, "
            "with `to_json(path, orient='records', lines=True)`"
        )
    return rows


def drop_byte_order_mark(file: Path, scratch: Path) -> Path:
    """A file without the mark that Windows writes first: DuckDB takes what follows for no JSON."""
    with file.open("rb") as stream:
        if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            return file
        bare_path = scratch / f"{file.name}.bare"
        with bare_path.open("wb") as bare:
            shutil.copyfileobj(stream, bare)
    return bare_path


def keep_sound_lines(file: Path, scratch: Path, shown_path: str) -> SoundLines:
    """A copy with the lines that are a JSON object each, in bounded memory.

    A process that was ended leaves half a line, two that write at once mix theirs, and people add commas.

    Raises:
        UserError: most lines are none, so that the file is JSON of another form, or none.
    """
    sound_path = scratch / f"{file.name}.sound"
    broken: list[tuple[int, str]] = []
    num_read = num_sound = 0
    with sound_path.open("w", encoding="utf-8") as sound, open_duckdb() as connection:
        for lines in read_lines(file):
            objects = lines.str.strip_chars().str.replace(r",$", "")
            table = pl.DataFrame({"line": objects}).to_arrow()
            is_valid = connection.from_arrow(table).project(
                "coalesce(json_valid(line) AND starts_with(line, '{'), false)"
            )
            is_sound = pl.Series([valid for (valid,) in is_valid.fetchall()], dtype=pl.Boolean)
            is_nothing = objects.is_in(["", *_BRACKETS])
            num_sound += int(is_sound.sum())
            sound.writelines(f"{line}\n" for line in objects.filter(is_sound))
            others = (~is_sound & ~is_nothing).arg_true()
            broken += [(num_read + int(number) + 1, lines[int(number)]) for number in others]
            num_read += len(lines)
            if len(broken) > max(num_sound, 1):
                break
    if len(broken) > num_sound:
        number, text = broken[0]
        raise UserError(
            f"'{shown_path}' is no JSON that can be read: line {number:,} is '{text.strip()[:60]}'. Write "
            "one object a line, or one array of objects"
        )
    return SoundLines(sound_path, tuple(broken))
