"""One way to open DuckDB: times in UTC, no progress bar among a step's own lines, memory within a bound."""

from pathlib import Path

import duckdb


def open_duckdb(
    *,
    database: Path | None = None,
    memory_limit: str | None = None,
    scratch: Path | None = None,
    threads: int | None = None,
    preserve_order: bool = True,
) -> duckdb.DuckDBPyConnection:
    """Opens a connection.

    Args:
        database: a file; None keeps tables in memory.
        memory_limit: such as "1GB"; None is DuckDB's own, a large part of the machine's.
        scratch: folder for what does not fit into that memory.
        threads: at most so many; None is one a core.
        preserve_order: keep rows in the order in which they were read, where nothing else is asked for.
    """
    settings: dict[str, str | int | None] = {
        "memory_limit": memory_limit,
        "temp_directory": str(scratch) if scratch else None,
        "threads": threads,
    }
    connection = duckdb.connect(
        str(database) if database else ":memory:",
        config={name: value for name, value in settings.items() if value is not None},
    )
    connection.execute("SET enable_progress_bar = false")
    # Without it, times come back in the machine's own zone.
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = $1", [preserve_order])
    return connection
