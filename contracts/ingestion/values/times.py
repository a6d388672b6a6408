"""Moments in every common form: numbers of any unit, dates as numbers, texts of databases and of people.

A number is read as what makes it a plausible moment: the ranges of seconds, milliseconds, microseconds,
nanoseconds, .NET ticks, YYYYMMDD, YYMMDDHH, YYYYMMDDHHMMSS and the days of spreadsheets do not overlap
between 1990 and now, ticks and the nanoseconds of early 1990 aside. So units may be mixed in a column, and
one wrong cell changes no other.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.values.time_texts import (
    clean_time_texts,
    is_zone,
    place_in_zone,
    read_common_times,
    read_text_times,
)
from contracts.table_schema import UTC_TIME

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "iso"]
TOLERATED_CLOCK_SKEW: Final = timedelta(days=1)
"""Times up to so far after now are kept: clocks differ, and zones are mistaken."""
_TICK_ORIGIN: Final = 621_355_968_000_000_000
""".NET counts tenths of a microsecond from the year 1; so many lie before 1970."""
_EXCEL_ORIGIN_DAYS: Final = 25_569
"""Spreadsheets count days from 1899-12-30; so many lie before 1970."""
_US_PER_DAY: Final = 86_400_000_000


class TimeRules(NamedTuple):
    """How the times of a source are to be read."""

    unit: TimeUnit
    zone: str
    """IANA name; holds for times that name no zone."""
    day_first: bool | None
    """Whether 03/04/2025 is April; None lets the column decide."""
    earliest: datetime
    latest: datetime


def make_time_rules(
    *, unit: TimeUnit, zone: str, day_first: bool | None, earliest: datetime, latest: datetime | None = None
) -> TimeRules:
    """Makes rules; `latest` is by default a day from now.

    Raises:
        UserError: the zone has no such name.
    """
    if not is_zone(zone):
        raise UserError(f"time_zone '{zone}' is no IANA time zone; write one like Europe/Berlin or UTC")
    return TimeRules(unit, zone, day_first, earliest, latest or datetime.now(UTC) + TOLERATED_CLOCK_SKEW)


def read_times(values: pl.Series, rules: TimeRules) -> pl.Series:
    """Reads cells as UTC microseconds; null where one cannot be read.

    Args:
        values: datetimes, dates, numbers, or text without missing words.
        rules: with `day_first` decided.

    Returns:
        [N] times, whatever their plausibility: numbers aside, which are only read as plausible moments
        unless a unit is given.
    """
    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None:
        return values.cast(UTC_TIME)
    if values.dtype in (pl.Date, pl.Datetime):
        return place_in_zone(values.cast(pl.Datetime("us")), rules.zone)
    if values.dtype != pl.String:
        return _read_numeric_times(values, rules)
    moments = read_common_times(values, rules.zone)
    is_other = moments.is_null() & values.is_not_null()
    if is_other.any():
        moments = moments.scatter(is_other.arg_true(), _read_other_times(values.filter(is_other), rules))
    return moments


def _read_other_times(values: pl.Series, rules: TimeRules) -> pl.Series:
    texts = clean_time_texts(values)
    read_texts = read_text_times(texts, rules.zone, rules.day_first)
    if rules.unit == "iso" or read_texts.null_count() == texts.null_count():
        return read_texts
    return read_texts.fill_null(_read_numeric_times(_read_exact_numbers(texts), rules))


def _read_exact_numbers(texts: pl.Series) -> pl.Series:
    """Texts as Int64 where all are whole, so that nanoseconds keep their digits; else as Float64."""
    whole = texts.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
    numbers = texts.cast(pl.Float64, strict=False)
    return whole if whole.null_count() == numbers.null_count() else numbers


def _read_numeric_times(values: pl.Series, rules: TimeRules) -> pl.Series:
    if values.dtype == pl.Boolean or not (values.dtype.is_numeric()):
        return pl.Series(values.name, [None], UTC_TIME).new_from_index(0, len(values))
    numbers = values.cast(pl.Float64, strict=False)
    if rules.unit in ("s", "ms", "us", "ns"):
        times_us = _scale(values, numbers, rules.unit)
        return _to_moments(times_us)
    earliest_us, latest_us = (moment.timestamp() * 1e6 for moment in (rules.earliest, rules.latest))
    moments = pl.Series(values.name, [None], UTC_TIME).new_from_index(0, len(values))
    for unit in ("s", "ms", "us", "ticks", "ns"):
        if moments.null_count() == values.null_count():
            return moments
        times_us = _scale(values, numbers, unit)
        moments = moments.fill_null(_to_moments(_keep_between(times_us, earliest_us, latest_us)))
    if moments.null_count() == values.null_count():
        return moments
    is_whole = (numbers == numbers.floor()).fill_null(False)
    digits = numbers.set(~is_whole | (numbers.abs() > 1e15).fill_null(True), None).cast(
        pl.Int64, strict=False
    )
    written = digits.cast(pl.String)
    for num_digits, number_format in (
        (8, "%Y%m%d"),
        (8, "%y%m%d%H"),
        (10, "%Y%m%d%H"),
        (12, ""),
        (14, "%Y%m%d%H%M%S"),
    ):
        moments = moments.fill_null(
            _keep_moments_between(_read_digits(written, num_digits, number_format, rules.zone), rules)
        )
    if values.dtype.is_integer():
        moments = moments.fill_null(_keep_moments_between(_read_seventeen_digits(values, rules.zone), rules))
    for origin_days in (_EXCEL_ORIGIN_DAYS, 0):
        days_us = ((numbers - origin_days) * _US_PER_DAY).round()
        # The fraction of a spreadsheet's day has rounded digits: only its seconds are exact.
        local = _to_moments(_keep_between((days_us / 1e6).round() * 1e6, earliest_us, latest_us))
        moments = moments.fill_null(place_in_zone(local.dt.replace_time_zone(None), rules.zone))
    return moments


def _read_digits(written: pl.Series, num_digits: int, number_format: str, zone: str) -> pl.Series:
    padded = written.str.zfill(num_digits)
    is_of_length = (written.str.len_chars() <= num_digits) & (written.str.len_chars() >= num_digits - 1)
    is_of_length = is_of_length & ((written.str.len_chars() == num_digits) | (number_format == "%y%m%d%H"))
    texts = padded.set(~is_of_length.fill_null(False), None)
    # Polars wants minutes beside hours.
    if number_format in ("%y%m%d%H", "%Y%m%d%H"):
        texts, number_format = texts + "00", f"{number_format}%M"
    local = texts.str.to_datetime(number_format or "%Y%m%d%H%M", time_unit="us", strict=False)
    return place_in_zone(local, zone)


def _read_seventeen_digits(values: pl.Series, zone: str) -> pl.Series:
    """Numbers such as 20250301140507123: a float would lose their last digits."""
    seconds, milliseconds = (values // 1000).cast(pl.String), values % 1000
    moments = _read_digits(seconds, 14, "%Y%m%d%H%M%S", zone)
    return moments + (milliseconds * 1000).cast(pl.Duration("us"))


def _scale(values: pl.Series, numbers: pl.Series, unit: str) -> pl.Series:
    """Microseconds since 1970 as Float64, or Int64 where the cells are whole nanoseconds."""
    if unit == "ns" and values.dtype.is_integer():
        return values // 1000
    if unit == "ticks":
        return ((numbers - _TICK_ORIGIN) / 10).round()
    return (numbers * {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}[unit]).round()


def _keep_between(times_us: pl.Series, earliest_us: float, latest_us: float) -> pl.Series:
    is_plausible = (times_us >= earliest_us) & (times_us <= latest_us)
    return times_us.set(~is_plausible.fill_null(False), None)


def _keep_moments_between(moments: pl.Series, rules: TimeRules) -> pl.Series:
    is_plausible = (moments >= rules.earliest) & (moments <= rules.latest)
    return moments.set(~is_plausible.fill_null(False), None)


def _to_moments(times_us: pl.Series) -> pl.Series:
    # Beyond the year 2201 nothing is a time, and the cast would overflow.
    possible = times_us.set((times_us.abs() > 7.3e15).fill_null(False), None)
    return possible.cast(pl.Int64, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
