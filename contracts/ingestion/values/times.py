"""Moments in every common form: numbers of any unit, dates as numbers, texts of databases and of people.

A number is read as what makes it a plausible moment: the ranges of seconds, milliseconds, microseconds,
nanoseconds, .NET ticks, YYYYMMDD, YYMMDDHH, YYYYMMDDHHMMSS and the days of spreadsheets do not overlap
between 1990 and now, ticks and the nanoseconds of early 1990 aside. So units may be mixed in a column, and
one wrong cell changes no other.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from contracts.errors import UserError
from contracts.table_schema import UTC_TIME

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "iso"]
TOLERATED_CLOCK_SKEW: Final = timedelta(days=1)
"""Times up to so far after now are kept: clocks differ, and zones are mistaken."""
_MONTHS: Final = {
    name: f"{number:02}"
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_CLOCK: Final = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
_DAY: Final = r"(?P<day>\d{1,2})"
_YEAR: Final = r"(?P<year>\d{4})"
_ANY_YEAR: Final = r"(?P<year>\d{4}|\d{2})"
_WEEKDAY: Final = r"(?:[A-Za-z]{3,9},? )?"
_ZONE: Final = r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?P<zone>(?:Z|z|UTC|GMT|UT)?(?:[+-]\d{2}(?::?\d{2})?)?)$"
_MONTH: Final = r"(?P<month>[A-Za-z]{3})[A-Za-z]*\.?"
_TEXT_FORMS: Final = {
    "year_first": rf"^{_YEAR}[-/.](?P<month>\d{{1,2}})[-/.]{_DAY}(?:[T ]+{_CLOCK})?{_ZONE}",
    "compact": (
        rf"^{_YEAR}(?P<month>\d{{2}})(?P<day>\d{{2}})[T ](?P<hour>\d{{2}}):?(?P<minute>\d{{2}})"
        rf"(?::?(?P<second>\d{{2}})(?:[.,](?P<fraction>\d{{1,9}}))?)?{_ZONE}"
    ),
    "dotted": rf"^{_DAY}\.(?P<month>\d{{1,2}})\.{_ANY_YEAR}(?:,?[T ]+{_CLOCK})?{_ZONE}",
    "slashed": (
        rf"^(?P<first>\d{{1,2}})(?:/|-)(?P<other>\d{{1,2}})(?:/|-){_ANY_YEAR}(?:,?[T ]+{_CLOCK})?{_ZONE}"
    ),
    "day_and_name": rf"^{_WEEKDAY}{_DAY}[-/ ]{_MONTH}[-/ ,]+{_YEAR}(?:[:T, ]+{_CLOCK})?{_ZONE}",
    "name_and_day": rf"^{_WEEKDAY}{_MONTH} {_DAY},? {_YEAR}(?:[T, ]+{_CLOCK})?{_ZONE}",
    "year_last": rf"^{_WEEKDAY}{_MONTH} {_DAY} {_CLOCK} (?P<zone>(?:UTC|GMT)?(?:[+-]\d{{4}})?) ?{_YEAR}$",
}
_PARTS: Final = ("year", "month", "day", "hour", "minute", "second", "fraction", "half", "zone")
_COMMON_FORM: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|\+00:00)?$"
)
"""How most logs write times: it is read at once, where the forms of people take a search each."""
_HOUR: Final = r"^\d{4}-\d{2}-\d{2}[T ](\d{2}):[^AaPp]*$"
_UTC_SIGN: Final = r"(?:Z|\+00:00)$"
_NUMBER: Final = r"^\d+(?:\.\d+)?$"
_SCIENTIFIC: Final = r"^\d(?:\.(\d+))?[eE]\+?\d{1,2}$"
_SHORT_DATE: Final = r"^(?P<first>\d{1,2})[-/.]\d{1,2}[-/.](?P<last>\d{2})(?:\D|$)"
_SECOND_DECIMALS: Final = 9
"""A moment of our time in scientific notation names its second only with so many decimals."""
_LARGEST_EXACT: Final = {"Float16": 2.0**11, "Float32": 2.0**24}
"""Beyond, a float of the type names no whole second any more."""
_YEAR_AT_END: Final = r"^\d{3,4}(?:19|20)\d{2}$"
_YEAR_AT_START: Final = r"^(?:199|20\d)\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"
_TICK_ORIGIN: Final = 621_355_968_000_000_000
""".NET counts tenths of a microsecond from the year 1; so many lie before 1970."""
_EXCEL_ORIGIN_DAYS: Final = 25_569
"""Spreadsheets count days from 1899-12-30; so many lie before 1970."""
_US_PER_DAY: Final = 86_400_000_000
_MIN_DAYS: Final = 5
_MAX_YEARS: Final = 2
"""Numbers of dates with a year of two digits that differ by so much are days, or by so little years."""


class TimeRules(NamedTuple):
    """How the times of a source are to be read."""

    unit: TimeUnit
    zone: str
    """IANA name; holds for times that name no zone."""
    day_first: bool | None
    """Whether 03/04/2025 is April; None lets the column decide."""
    earliest: datetime
    latest: datetime


class NumberRange(NamedTuple):
    """The least and the greatest of some numbers; of none the least is the greater one."""

    low: int = 1 << 31
    high: int = -1

    def add(self, other: "NumberRange") -> "NumberRange":
        """Range of both."""
        return NumberRange(min(self.low, other.low), max(self.high, other.high))

    @property
    def width(self) -> int:
        """Distance from one to the other."""
        return self.high - self.low


class TimeEvidence(NamedTuple):
    """How the cells of a time column are written."""

    num_day_first: int = 0
    """Slashed dates whose first number is above 12."""
    num_month_first: int = 0
    num_open: int = 0
    """Slashed dates that either order could explain."""
    num_naive: int = 0
    """Times that name no zone."""
    example: str = ""
    """One of the open dates."""
    first_numbers: NumberRange = NumberRange()
    """Of dates whose year has two digits."""
    last_numbers: NumberRange = NumberRange()
    num_year_at_end: int = 0
    """Numbers of eight digits that end in a year: 03052023."""
    num_eight_digits: int = 0
    """Numbers of eight digits that do not begin with a date."""
    num_scientific: int = 0
    most_decimals: int = 0
    """Of a number in scientific notation."""
    hours: NumberRange = NumberRange()
    """Of times that begin like 2025-03-01 14:30, without AM or PM."""

    @property
    def is_open(self) -> bool:
        """Whether slashed dates may be read in two ways, and none of them tells which."""
        return self.num_open > 0 and not (self.num_day_first or self.num_month_first)

    def add(self, other: "TimeEvidence") -> "TimeEvidence":
        """Evidence of both."""
        return TimeEvidence(
            self.num_day_first + other.num_day_first,
            self.num_month_first + other.num_month_first,
            self.num_open + other.num_open,
            self.num_naive + other.num_naive,
            self.example or other.example,
            self.first_numbers.add(other.first_numbers),
            self.last_numbers.add(other.last_numbers),
            self.num_year_at_end + other.num_year_at_end,
            self.num_eight_digits + other.num_eight_digits,
            self.num_scientific + other.num_scientific,
            max(self.most_decimals, other.most_decimals),
            self.hours.add(other.hours),
        )


def make_time_rules(
    *, unit: TimeUnit, zone: str, day_first: bool | None, earliest: datetime, latest: datetime | None = None
) -> TimeRules:
    """Makes rules; `latest` is by default a day from now.

    Raises:
        UserError: the zone has no such name.
    """
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UserError(
            f"time_zone '{zone}' is no IANA time zone; write one like Europe/Berlin or UTC"
        ) from error
    return TimeRules(unit, zone, day_first, earliest, latest or datetime.now(UTC) + TOLERATED_CLOCK_SKEW)


def collect_time_evidence(values: pl.Series) -> TimeEvidence:
    """Collects evidence of time cells."""
    if values.dtype == pl.Date or (isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is None):
        return TimeEvidence(num_naive=values.len() - values.null_count())
    if values.dtype != pl.String:
        if not (values.dtype.is_integer() or values.dtype.is_float()):
            return TimeEvidence()
        # Most times are larger numbers: those need no look at their digits.
        eight_digits = values.filter(values.is_between(1_000_000, 99_999_999))
        return _count_numbers(eight_digits.cast(pl.Int64, strict=False).cast(pl.String))
    is_common = values.str.contains(_COMMON_FORM).fill_null(False)
    common, values = values.filter(is_common), values.filter(~is_common)
    num_common_naive = len(common) - int(common.str.contains(_UTC_SIGN).sum())
    hours = _measure_range(common.str.slice(11, 2).cast(pl.Int64))
    if values.null_count() == len(values):
        return TimeEvidence(num_naive=num_common_naive, hours=hours)
    texts = clean_time_texts(values)
    slashed = texts.str.extract_groups(_TEXT_FORMS["slashed"]).struct.unnest()
    first, other = (slashed[name].cast(pl.Int64, strict=False) for name in ("first", "other"))
    is_slashed = first.is_not_null()
    is_day_first, is_month_first = (is_slashed & (part > 12).fill_null(False) for part in (first, other))
    is_open = is_slashed & ~is_day_first & ~is_month_first & (first != other)
    names_zone = texts.str.contains(r"(?:Z|z|UTC|GMT|UT|[+-]\d{2}:?\d{2}|:\d{2}(?:[.,]\d+)?\s*[+-]\d{2})$")
    is_text = ~(texts.str.contains(_NUMBER) | texts.str.contains(_SCIENTIFIC)).fill_null(True)
    open_texts = values.filter(is_open.fill_null(False))
    short_dates = texts.str.extract_groups(_SHORT_DATE).struct.unnest().cast(pl.Int64).drop_nulls()
    numbers = _count_numbers(texts.filter(~is_text))
    return numbers.add(
        TimeEvidence(
            int((is_day_first & ~is_month_first).sum()),
            int((is_month_first & ~is_day_first).sum()),
            int(is_open.sum()),
            num_common_naive + int((is_text & ~names_zone.fill_null(True)).sum()),
            open_texts[0] if len(open_texts) else "",
            _measure_range(short_dates["first"]),
            _measure_range(short_dates["last"]),
            hours=hours.add(_measure_range(texts.str.extract(_HOUR, 1).drop_nulls().cast(pl.Int64))),
        )
    )


def _count_numbers(texts: pl.Series) -> TimeEvidence:
    """Evidence of times that are numbers."""
    is_date = texts.str.contains(_YEAR_AT_START)
    eight_digits = texts.filter((texts.str.contains(r"^\d{7,8}$") & ~is_date).fill_null(False))
    scientific = texts.filter(texts.str.contains(_SCIENTIFIC).fill_null(False))
    decimals = scientific.str.extract(_SCIENTIFIC, 1).str.len_chars().fill_null(0)
    return TimeEvidence(
        num_year_at_end=int(eight_digits.str.contains(_YEAR_AT_END).sum()),
        num_eight_digits=len(eight_digits),
        num_scientific=len(scientific),
        most_decimals=_measure_range(decimals).high if len(decimals) else 0,
    )


def _measure_range(numbers: pl.Series) -> NumberRange:
    low, high = numbers.min(), numbers.max()
    return NumberRange(low, high) if isinstance(low, int) and isinstance(high, int) else NumberRange()


def refuse_inexact_times(values: pl.Series, column_name: str) -> None:
    """Refuses times that are stored as floats too small to tell seconds apart.

    Raises:
        UserError: a value is beyond what the type holds exactly.
    """
    largest_exact = _LARGEST_EXACT.get(str(values.dtype))
    if largest_exact is not None and ((values > largest_exact) & values.is_finite()).any():
        raise UserError(
            f"column '{column_name}' holds times as {values.dtype}: such floats name no single second, and "
            "times are minutes away from what they were. Export the column as 64-bit numbers or as text"
        )


def refuse_unclear_times(evidence: TimeEvidence, column_name: str) -> None:
    """Refuses a column whose cells as a whole show that they would be misread.

    Raises:
        UserError: digits were lost, or the year stands where none is looked for.
    """
    if evidence.num_scientific and evidence.most_decimals < _SECOND_DECIMALS:
        raise UserError(
            f"column '{column_name}': {evidence.num_scientific:,} times are in scientific notation "
            "(1.74E+12) and have lost their last digits. Export the column as text or as whole numbers"
        )
    if evidence.num_year_at_end > 1 and evidence.num_year_at_end == evidence.num_eight_digits:
        raise UserError(
            f"column '{column_name}': {evidence.num_year_at_end:,} numbers of eight digits end in a year, "
            "as in 03052023; which of the others is the day nothing tells. Write dates as "
            "20230503 or 2023-05-03"
        )


def _refuse_leading_years(evidence: TimeEvidence, column_name: str) -> None:
    """Refuses dates such as 25-03-01: the last number changes, as days do, and the first does not."""
    if evidence.last_numbers.width >= _MIN_DAYS and evidence.first_numbers.width <= _MAX_YEARS:
        raise UserError(
            f"column '{column_name}': in dates with a year of two digits the last number runs from "
            f"{evidence.last_numbers.low} to {evidence.last_numbers.high}, the first only from "
            f"{evidence.first_numbers.low} to {evidence.first_numbers.high}: the year seems to stand "
            "first. Write it with four digits, as in 2025-03-01; or set `day_first` if it stands last"
        )


def decide_day_first(evidence: TimeEvidence, column_name: str, configured: bool | None) -> bool | None:
    """Decides whether the day stands first in slashed dates; None where there are none to decide on.

    Raises:
        UserError: the cells contradict each other, or nothing decides.
    """
    if configured is not None:
        return configured
    _refuse_leading_years(evidence, column_name)
    if evidence.num_day_first and evidence.num_month_first:
        raise UserError(
            f"column '{column_name}': in {evidence.num_day_first:,} dates the day stands first, in "
            f"{evidence.num_month_first:,} the month; set `day_first` of this source, or write dates as "
            "2025-03-01"
        )
    if evidence.num_day_first or evidence.num_month_first:
        return evidence.num_day_first > 0
    if evidence.num_open:
        raise UserError(
            f"column '{column_name}': '{evidence.example}' may be two days, and no date of the column tells "
            "which number is the day; set `day_first: true` or `day_first: false` of this source"
        )
    return None


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
        return _place_in_zone(values.cast(pl.Datetime("us")), rules.zone)
    if values.dtype != pl.String:
        return _read_numeric_times(values, rules)
    moments = _read_common_times(values, rules.zone)
    is_other = moments.is_null() & values.is_not_null()
    if is_other.any():
        moments = moments.scatter(is_other.arg_true(), _read_other_times(values.filter(is_other), rules))
    return moments


def _read_common_times(texts: pl.Series, zone: str) -> pl.Series:
    """Reads the texts of `_COMMON_FORM`; null for all others."""
    is_common = texts.str.contains(_COMMON_FORM).fill_null(False)
    if not is_common.any():
        return pl.Series(texts.name, [None], UTC_TIME).new_from_index(0, len(texts))
    common = texts.set(~is_common, None)
    is_utc = common.str.contains(_UTC_SIGN).fill_null(False)
    local = (
        common.str.replace(_UTC_SIGN, "")
        .str.replace("T", " ", literal=True)
        .str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    )
    return local.dt.replace_time_zone("UTC").zip_with(is_utc, _place_in_zone(local, zone))


def _read_other_times(values: pl.Series, rules: TimeRules) -> pl.Series:
    texts = clean_time_texts(values)
    read_texts = _read_text_times(texts, rules)
    if rules.unit == "iso" or read_texts.null_count() == texts.null_count():
        return read_texts
    return read_texts.fill_null(_read_numeric_times(_read_exact_numbers(texts), rules))


def clean_time_texts(texts: pl.Series) -> pl.Series:
    """Texts without quotation marks, bracketed zones and remarks, and with single blanks."""
    return (
        texts.str.strip_chars("\"' \t\ufeff\u00a0")
        .str.replace(r"\[[A-Za-z_/+-]+\d*\]$", "")
        .str.replace(r"\s*\([^)]*\)$", "")
        .str.replace_all(r"\s+", " ")
    )


def _read_text_times(texts: pl.Series, rules: TimeRules) -> pl.Series:
    moments = pl.Series(texts.name, [None], UTC_TIME).new_from_index(0, len(texts))
    # No form is a plain number.
    is_open = ~texts.str.contains(_NUMBER).fill_null(True)
    for form, pattern in _TEXT_FORMS.items():
        open_rows = (is_open & moments.is_null()).arg_true()
        if not len(open_rows):
            break
        groups = texts.gather(open_rows).str.extract_groups(pattern).struct.unnest()
        if form == "slashed" and rules.day_first is not None:
            day, month = ("first", "other") if rules.day_first else ("other", "first")
            groups = groups.rename({day: "day", month: "month"})
        if "day" in groups.columns and groups["day"].null_count() < len(groups):
            moments = moments.scatter(open_rows, _build_moments(groups, rules.zone))
    return moments


def _build_moments(groups: pl.DataFrame, zone: str) -> pl.Series:
    absent = [pl.lit(None, pl.String).alias(name) for name in _PARTS if name not in groups.columns]
    parts = groups.with_columns(absent).with_columns(
        pl.when(pl.col(name) != "").then(pl.col(name)) for name in ("half", "zone", "hour", "fraction")
    )
    month = pl.col("month").str.to_lowercase().str.slice(0, 3).replace(_MONTHS)
    year = pl.when(pl.col("year").str.len_chars() == 2).then(pl.lit("20") + pl.col("year")).otherwise("year")
    hour = pl.col("hour").fill_null("0").cast(pl.Int64)
    is_afternoon = pl.col("half").str.to_lowercase().str.starts_with("p")
    hour = pl.when(pl.col("half").is_null()).then(hour).otherwise(hour % 12 + is_afternoon * 12)
    fraction = pl.col("fraction").fill_null("0").str.pad_end(6, "0").str.slice(0, 6)
    written = pl.concat_str(
        year,
        pl.lit("-"),
        month.str.zfill(2),
        pl.lit("-"),
        pl.col("day").str.zfill(2),
        pl.lit("T"),
        hour.cast(pl.String).str.zfill(2),
        pl.lit(":"),
        pl.col("minute").fill_null("00"),
        pl.lit(":"),
        pl.col("second").fill_null("00"),
        pl.lit("."),
        fraction,
    )
    local = parts.select(written.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False))
    offset = pl.col("zone").str.extract_groups(r"(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})?$")
    minutes = offset.struct["hours"].cast(pl.Int64) * 60 + offset.struct["minutes"].fill_null("0").cast(
        pl.Int64
    )
    shift = pl.when(offset.struct["sign"] == "-").then(-minutes).otherwise(minutes)
    shift_us = parts.select(shift.fill_null(0) * 60_000_000).to_series()
    moments = local.to_series()
    zoned = (moments - shift_us.cast(pl.Duration("us"))).dt.replace_time_zone("UTC")
    return zoned.zip_with(parts["zone"].is_not_null(), _place_in_zone(moments, zone))


def _place_in_zone(local: pl.Series, zone: str) -> pl.Series:
    """Local times as UTC. Of an hour that the clock shows twice the first is taken; one that it skips is read
    as if the clock had not been put forward."""
    if zone == "UTC":
        return local.dt.replace_time_zone("UTC").cast(UTC_TIME)
    moments = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    skipped = (local - timedelta(hours=1)).dt.replace_time_zone(
        zone, ambiguous="earliest", non_existent="null"
    )
    return moments.fill_null(skipped + timedelta(hours=1)).cast(UTC_TIME)


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
    for origin_days in (_EXCEL_ORIGIN_DAYS, 0):
        days_us = ((numbers - origin_days) * _US_PER_DAY).round()
        # The fraction of a spreadsheet's day has rounded digits: only its seconds are exact.
        local = _to_moments(_keep_between((days_us / 1e6).round() * 1e6, earliest_us, latest_us))
        moments = moments.fill_null(_place_in_zone(local.dt.replace_time_zone(None), rules.zone))
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
    return _place_in_zone(local, zone)


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
