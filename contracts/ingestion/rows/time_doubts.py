"""What may be wrong with the times of a log, though all of them can be read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from contracts.ingestion.config import EventSourceConfig
from contracts.ingestion.rows.column_evidence import SourceEvidence
from contracts.ingestion.rows.user_partitions import UserPartitions
from contracts.ingestion.rows.whole_log import find_shifted_files
from contracts.ingestion.values.time_evidence import NumberRange

_HALF_DAY: Final = NumberRange(1, 12)
_MANY_ROWS: Final = 200
"""So many times have hours of the whole day, by any real clock."""
_LONG_AGO: Final = timedelta(days=5 * 365)
_MIN_DATES: Final = 5
"""Of fewer all days may be above the 12th by chance."""


def describe_times(
    evidence: SourceEvidence, source: EventSourceConfig, last_time: datetime | None
) -> list[str]:
    """Says how the times of a log were read, and why that may be wrong, a sentence each.

    Args:
        evidence: what its cells show.
        source: how the user says that they are to be read.
        last_time: the last event; None where there is none.
    """
    times = evidence.times.get("timestamp")
    if times is None:
        return []
    notes = []
    if times.num_naive and source.time_zone == "UTC":
        notes.append(
            f"{times.num_naive:,} times name no zone and are read as UTC; set data.events.time_zone if they "
            "are local times"
        )
    if times.hours == _HALF_DAY and evidence.num_rows >= _MANY_ROWS:
        notes.append("no time is before 1:00 or after 12:59: did a 12-hour clock lose its AM and PM?")
    if times.num_serials and source.time_unit == "auto":
        notes.append(
            f"{times.num_serials:,} times are days of a spreadsheet, counted from 1899-12-30; if the "
            "workbook counts from 1904, as old ones of Macs do, add 1,462 to each"
        )
        if times.num_day_first + times.num_month_first >= _MIN_DATES and not times.num_open:
            notes.append(
                "all dates that stand as texts have a day above the 12th: a spreadsheet seems to have read "
                "the others with day and month exchanged. Export the dates as 2025-03-01"
            )
    is_old = last_time is not None and datetime.now(UTC) - last_time > _LONG_AGO
    if times.num_epochs and is_old and source.time_unit in ("auto", "s"):
        notes.append(
            f"times are numbers, read as counted from 1970, and the last one is of {last_time:%Y-%m-%d}. Is "
            "the log newer? GPS counts from 1980 (add 315,964,800 seconds), others from 2000 (946,684,800), "
            "Apple from 2001 (978,307,200)"
        )
    open_files = evidence.files_of_open_dates
    if open_files and source.day_first is None:
        notes.append(
            f"{len(open_files):,} file(s), such as '{open_files[0]}', hold only dates like 03/04/2025; they "
            "are read in the order of the other files' dates. Set "
            "data.events.day_first if that is wrong"
        )
    return notes


def describe_shifted_files(log: UserPartitions, num_files: int, num_rows: int, scratch: Path) -> list[str]:
    """Says which two of several files hold the same events some hours apart."""
    if num_files < 2 or not log.has_rows:
        return []
    found = find_shifted_files(log.files, num_rows, scratch)
    if found is None:
        return []
    one, other, hours, num_events = found
    return [
        f"'{one}' and '{other}' hold the same events {hours:+g} hours apart ({num_events:,} of those looked "
        "at), and they count twice: is one in local time? Leave one out, or write both in one zone"
    ]
