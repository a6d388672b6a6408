"""What only a look at the whole log shows. DuckDB answers: it leaves to disk what memory does not hold."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from math import ceil
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import polars as pl

from contracts.duckdb_connection import open_duckdb
from contracts.events.bots import MIN_BEHAVIORS, MIN_USERS, BotRuleConfig, mark_bot_days
from contracts.events.order_returns import RETURN_TYPES

_MEMORY: Final = "512MB"
"""What sorting and counting may take. Beyond that DuckDB writes to disk."""
_MAX_THREADS: Final = 4
"""Each needs a part of the memory."""


_COUNT_USERS: Final = """
SELECT
    sum(num_rows),
    count(*),
    sum(num_rows) FILTER (regexp_full_match(user_id, '0+')),
    sum(num_behaviors),
    max(num_behaviors),
    count(*) FILTER (has_letters) - count(DISTINCT lower(nfc_normalize(user_id))) FILTER (has_letters),
    arg_max(user_id, num_behaviors),
    min(first_position),
    count(*) FILTER (num_behaviors > 0),
    sum(num_impressions),
    max(num_impressions),
    arg_max(user_id, num_impressions),
    count(*) FILTER (is_padded)
FROM (
    SELECT
        user_id,
        regexp_matches(user_id, '[^0-9.-]') AS has_letters,
        regexp_full_match(user_id, '0[0-9]*[1-9][0-9]*') AS is_padded,
        count(*) AS num_rows,
        count(*) FILTER (NOT list_contains($1, event_type)) AS num_behaviors,
        count(*) FILTER (event_type = 'impression') AS num_impressions,
        min(position) FILTER (event_type = 'impression') AS first_position
    FROM log GROUP BY user_id
)
"""
_COUNT_UNPADDED: Final = """
WITH users AS (SELECT DISTINCT user_id FROM log)
SELECT count(*) FROM users WHERE user_id IN (
    SELECT ltrim(user_id, '0') FROM users WHERE regexp_full_match(user_id, '0[0-9]*[1-9][0-9]*')
)
"""
_FIND_DOMINANT: Final = """
WITH counted AS (
    SELECT
        user_id,
        count(*) FILTER (NOT list_contains($1, event_type)) AS num_done,
        count(*) FILTER (event_type = 'impression') AS num_shown
    FROM log GROUP BY user_id
),
totals AS (
    SELECT
        count(*) FILTER (num_done > 0) AS num_doing, sum(num_done) AS all_done,
        count(*) FILTER (num_shown > 0) AS num_viewing, sum(num_shown) AS all_shown
    FROM counted
)
SELECT user_id FROM counted, totals
WHERE (num_doing >= $2 AND all_done >= $3 AND num_done > $4 * all_done)
    OR (num_viewing >= $2 AND all_shown >= $3 AND num_shown > $4 * all_shown)
"""
_FIND_SHIFT: Final = """
WITH sample AS (
    SELECT user_id, item_id, event_type, timestamp, __file AS file FROM log
    WHERE hash(user_id) % CAST($1 AS UBIGINT) = 0
    QUALIFY count(*) OVER (PARTITION BY user_id, item_id, event_type) <= 20
),
sizes AS (SELECT file, count(*) AS num_rows FROM sample GROUP BY file),
shifts AS (
    SELECT
        one.file AS one_file, other.file AS other_file, epoch(other.timestamp - one.timestamp) AS seconds,
        count(*) AS num_rows
    FROM sample AS one JOIN sample AS other USING (user_id, item_id, event_type)
    WHERE one.file < other.file AND abs(epoch(other.timestamp - one.timestamp)) <= 50400
    GROUP BY ALL
)
SELECT one_file, other_file, seconds / 3600, shifts.num_rows
FROM shifts JOIN sizes AS one ON one.file = one_file JOIN sizes AS other ON other.file = other_file
WHERE seconds <> 0 AND seconds % 900 = 0 AND shifts.num_rows >= 20
    AND shifts.num_rows >= 0.2 * least(one.num_rows, other.num_rows)
ORDER BY shifts.num_rows DESC, one_file, other_file LIMIT 1
"""
"""No zone is more than fourteen hours from UTC, and all differ by quarters of an hour."""
_SAMPLED_ROWS: Final = 200_000


class LogStatistics(NamedTuple):
    """Counts of all rows of a log."""

    num_rows: int
    num_users: int
    num_of_user_zero: int
    """Rows of user ids that are nothing but zeros."""
    num_behaviors: int
    busiest_user: str
    """Whoever has most behaviors."""
    num_of_busiest_user: int
    """Their behaviors."""
    num_user_variants: int
    """Users whose ids are those of others but for case and Unicode's two forms of accents."""
    first_position: int | None
    """The least position of an impression; None where none says it."""
    num_active_users: int
    """Users who have behaviors."""
    num_unpadded_users: int
    """Users whose ids are those of others without the zeros in front."""
    rows_a_day: dict[date, int]
    """UTC day -> rows, in the order of the days."""
    num_impressions: int = 0
    busiest_viewer: str = ""
    """Whoever was shown most."""
    num_of_busiest_viewer: int = 0
    """Impressions of theirs."""

    def find_day(self, share: float) -> date:
        """The day before whose end such a share of the rows lies."""
        days, counts = list(self.rows_a_day), pl.Series(list(self.rows_a_day.values()))
        wanted_row = round(share * (self.num_rows - 1))
        return days[int((counts.cum_sum() <= wanted_row).sum())]


class RequestStatistics(NamedTuple):
    """What the requests of a log are."""

    has_pages: bool
    """Whether the log says what was shown in a request."""
    shared_ids: pl.Series
    """Request ids that several users have."""
    num_nameless: int = 0
    """Impressions that name no request."""


NO_ROWS: Final = LogStatistics(0, 0, 0, 0, "", 0, 0, None, 0, 0, {})
NO_REQUESTS: Final = RequestStatistics(False, pl.Series("request_id", [], pl.String))


@contextmanager
def open_log(files: str, scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens Parquet files with EVENTS' columns as the view `log`, within a bounded part of the memory.

    Args:
        files: a path, or a pattern of paths.
        scratch: folder for what does not fit into memory.
    """
    num_threads = min(len(os.sched_getaffinity(0)), _MAX_THREADS)
    with open_duckdb(memory_limit=_MEMORY, scratch=scratch / "duckdb", threads=num_threads) as connection:
        connection.read_parquet(files).create_view("log")
        yield connection


def count_log(files: str, scratch: Path) -> LogStatistics:
    """Counts the rows of a log (see `open_log`)."""
    with open_log(files, scratch) as connection:
        (counts,) = connection.execute(_COUNT_USERS, [["impression", *RETURN_TYPES]]).fetchall()
        # Few logs have such ids, and the others need no second look.
        num_unpadded = connection.execute(_COUNT_UNPADDED).fetchall()[0][0] if counts[-1] else 0
        days = connection.sql(
            "SELECT CAST(timestamp AS DATE) AS day, count(*) FROM log WHERE timestamp IS NOT NULL "
            "GROUP BY day ORDER BY day"
        ).fetchall()
    *numbers, busiest_user, first_position, num_active, num_impressions, num_of_viewer, viewer, _ = counts
    num_rows, num_users, num_of_zero, num_behaviors, num_of_busiest, num_variants = (
        int(number or 0) for number in numbers
    )
    return LogStatistics(
        num_rows,
        num_users,
        num_of_zero,
        num_behaviors,
        busiest_user or "",
        num_of_busiest,
        num_variants,
        first_position,
        int(num_active or 0),
        int(num_unpadded),
        dict(days),
        int(num_impressions or 0),
        viewer or "",
        int(num_of_viewer or 0),
    )


def find_shifted_files(files: str, num_rows: int, scratch: Path) -> tuple[str, str, float, int] | None:
    """Two files of a log (see `open_log`) that hold the same events some hours apart.

    Returns:
        Both files, the hours, and the events that were found in a sample of users; None where there are none.
    """
    with open_log(files, scratch) as connection:
        found = connection.execute(_FIND_SHIFT, [ceil(max(num_rows, 1) / _SAMPLED_ROWS)]).fetchall()
    return found[0] if found else None


def study_requests(files: str, scratch: Path) -> RequestStatistics:
    """Finds out what the request ids of a log name (see `open_log`)."""
    with open_log(files, scratch) as connection:
        connection.execute(
            "CREATE TABLE requests AS SELECT request_id, bool_or(event_type = 'impression') AS is_page, "
            "min(user_id) <> max(user_id) AS is_shared FROM log "
            "WHERE request_id IS NOT NULL AND NOT list_contains($1, event_type) GROUP BY request_id",
            [list(RETURN_TYPES)],
        )
        ((has_pages,),) = connection.sql("SELECT bool_or(is_page) FROM requests").fetchall()
        shared = connection.sql("SELECT request_id FROM requests WHERE is_shared ORDER BY request_id").pl()
        ((num_nameless,),) = connection.sql(
            "SELECT count(*) FROM log WHERE request_id IS NULL AND event_type = 'impression'"
        ).fetchall()
    return RequestStatistics(bool(has_pages), shared["request_id"], num_nameless)


def find_dominant_users(files: str, rule: BotRuleConfig, scratch: Path, *, many_rows: int) -> list[str]:
    """Users who hold so much of a log (see `open_log`) that they are no single shopper, and bots of single
    days among those with more than `many_rows` rows."""
    with open_log(files, scratch) as connection:
        bots = connection.execute(
            "SELECT DISTINCT user_id FROM ("  # noqa: S608 - only numbers of the rule enter the text
            "SELECT user_id, count(DISTINCT request_id) FILTER (event_type = 'impression') AS num_requests, "
            "count(*) FILTER (event_type = 'impression') AS num_impressions, "
            "count(*) FILTER (event_type = 'click') AS num_clicks, "
            "count(DISTINCT hash(request_id, item_id)) FILTER (event_type = 'click') AS num_clicked_items "
            # What was exported twice is one event: whoever did it is no bot for that.
            "FROM (SELECT DISTINCT user_id, timestamp, event_type, request_id, item_id FROM log "
            "SEMI JOIN (SELECT user_id FROM log GROUP BY user_id HAVING count(*) > $1) AS busy "
            "USING (user_id)) GROUP BY user_id, CAST(timestamp AS DATE)"
            f") WHERE {mark_bot_days(rule)}",
            [many_rows],
        ).fetchall()
        dominant: list[tuple[str]] = []
        if rule.max_share is not None:
            dominant = connection.execute(
                _FIND_DOMINANT, [["impression", *RETURN_TYPES], MIN_USERS, MIN_BEHAVIORS, rule.max_share]
            ).fetchall()
    return sorted({user_id for (user_id,) in [*bots, *dominant]})
