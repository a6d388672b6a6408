"""How the cells of a time column are written as a whole, and what is refused for it."""

from typing import Final, NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.values.time_texts import (
    COMMON_FORM,
    NUMBER,
    SLASHED,
    UTC_SIGN,
    ZONE_NAME,
    clean_time_texts,
)

_HOUR: Final = r"^\d{4}-\d{2}-\d{2}[T ](\d{2}):[^AaPp]*$"
_SCIENTIFIC: Final = r"^\d(?:\.(\d+))?[eE]\+?\d{1,2}$"
_SHORT_DATE: Final = r"^(?P<first>\d{1,2})[-/.](?:\d{1,2}|\p{L}{3,9})[-/.](?P<last>\d{2})(?:\D|$)"
_SECOND_DECIMALS: Final = 9
"""A moment of our time in scientific notation names its second only with so many decimals."""
_LARGEST_EXACT: Final = {"Float16": 2.0**11, "Float32": 2.0**24}
"""Beyond, a float of the type names no whole second any more."""
_YEAR_AT_END: Final = r"^\d{3,4}(?:19|20)\d{2}$"
_YEAR_AT_START: Final = r"^(?:199|20\d)\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"
_SHORT_STAMP: Final = r"^\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d$"
"""2503011405 may stand for 14:05 on the first of March 2025."""
_TEN_DIGITS: Final = (1_000_000_000, 9_999_999_999)
_STAMPS_LOOKED_AT: Final = 1000
"""Of a batch. All of them have the form, or hardly any: one in 190 seconds since 1970 does by chance."""
_MIN_STAMPS: Final = 20
_SERIALS: Final = (32_874, 60_000)
"""Days of a spreadsheet from 1990 on."""
_MIN_DAYS: Final = 5
_FROM_1970: Final = 100_000_000
"""Seconds; numbers of days and dates lie below. Milliseconds lie above, too."""
_MIN_DATES: Final = 10
_MOST_MONTHS_BEYOND: Final = 2
"""Certain and open dates of one log do not differ by more, where there are enough of both."""
_MAX_YEARS: Final = 2
"""Numbers of dates with a year of two digits that differ by so much are days, or by so little years."""


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
    num_ten_digits: int = 0
    """Different numbers of ten digits, among the first ones of each batch."""
    num_short_stamps: int = 0
    """Those of them that can be read as YYMMDDHHMM."""
    num_serials: int = 0
    """Numbers that are days of a spreadsheet."""
    hours: NumberRange = NumberRange()
    """Of times that begin like 2025-03-01 14:30, without AM or PM."""
    num_epochs: int = 0
    """Numbers that count seconds, or parts of them, from some year."""
    certain_months: NumberRange = NumberRange()
    """Months since the year 0 of slashed dates whose order is certain."""
    months_if_day_first: NumberRange = NumberRange()
    """Of open ones."""
    months_if_month_first: NumberRange = NumberRange()

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
            self.num_ten_digits + other.num_ten_digits,
            self.num_short_stamps + other.num_short_stamps,
            self.num_serials + other.num_serials,
            self.hours.add(other.hours),
            self.num_epochs + other.num_epochs,
            self.certain_months.add(other.certain_months),
            self.months_if_day_first.add(other.months_if_day_first),
            self.months_if_month_first.add(other.months_if_month_first),
        )


def collect_time_evidence(values: pl.Series) -> TimeEvidence:
    """Collects evidence of time cells."""
    if values.dtype == pl.Date or (isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is None):
        return TimeEvidence(num_naive=values.len() - values.null_count())
    if values.dtype != pl.String:
        if not (values.dtype.is_integer() or values.dtype.is_float()):
            return TimeEvidence()
        # Most times are larger numbers: those need no look at their digits.
        eight_digits = values.filter(values.is_between(1_000_000, 99_999_999))
        ten_digits = values.filter(values.is_between(*_TEN_DIGITS)).head(_STAMPS_LOOKED_AT)
        written = pl.concat([cells.cast(pl.Int64, strict=False) for cells in (eight_digits, ten_digits)])
        num_serials = int(values.is_between(*_SERIALS).sum())
        num_epochs = int((values >= _FROM_1970).sum())
        counted = TimeEvidence(num_serials=num_serials, num_epochs=num_epochs)
        return _count_numbers(written.cast(pl.String)).add(counted)
    is_common = values.str.contains(COMMON_FORM).fill_null(False)
    common, values = values.filter(is_common), values.filter(~is_common)
    num_common_naive = len(common) - int(common.str.contains(UTC_SIGN).sum())
    hours = _measure_range(common.str.slice(11, 2).cast(pl.Int64))
    if values.null_count() == len(values):
        return TimeEvidence(num_naive=num_common_naive, hours=hours)
    texts = clean_time_texts(values)
    slashed = texts.str.extract_groups(SLASHED).struct.unnest()
    first, other = (slashed[name].cast(pl.Int64, strict=False) for name in ("first", "other"))
    is_slashed = first.is_not_null()
    is_day_first, is_month_first = (is_slashed & (part > 12).fill_null(False) for part in (first, other))
    is_open = is_slashed & ~is_day_first & ~is_month_first & (first != other)
    names_zone = texts.str.contains(
        r"(?:Z|z|(?:UTC|GMT|UT)(?:[+-]\d{2})?|[+-]\d{2}:?\d{2}|:\d{2}(?:[.,]\d+)?\s*[+-]\d{2})$"
    )
    names_zone = names_zone | texts.str.contains(ZONE_NAME)
    is_text = ~(texts.str.contains(NUMBER) | texts.str.contains(_SCIENTIFIC)).fill_null(True)
    open_texts = values.filter(is_open.fill_null(False))
    short_dates = texts.str.extract_groups(_SHORT_DATE).struct.unnest().cast(pl.Int64).drop_nulls()
    number_texts = texts.filter(~is_text)
    num_epochs = int(number_texts.str.contains(r"^\d{9,}(?:\.\d*)?$").sum())
    numbers = _count_numbers(number_texts).add(TimeEvidence(num_epochs=num_epochs))
    years = slashed["year"].cast(pl.Int64, strict=False) * 12
    certain = (years + other).filter(is_day_first).append((years + first).filter(is_month_first))
    months = TimeEvidence(
        certain_months=_measure_range(certain),
        months_if_day_first=_measure_range((years + other).filter(is_open)),
        months_if_month_first=_measure_range((years + first).filter(is_open)),
    )
    return numbers.add(months).add(
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
    ten_digits = texts.filter(texts.str.contains(r"^\d{10}$").fill_null(False))
    ten_digits = ten_digits.head(_STAMPS_LOOKED_AT).unique()
    serials = texts.filter(texts.str.contains(r"^\d{5}(?:\.\d+)?$").fill_null(False))
    scientific = texts.filter(texts.str.contains(_SCIENTIFIC).fill_null(False))
    decimals = scientific.str.extract(_SCIENTIFIC, 1).str.len_chars().fill_null(0)
    return TimeEvidence(
        num_year_at_end=int(eight_digits.str.contains(_YEAR_AT_END).sum()),
        num_eight_digits=len(eight_digits),
        num_scientific=len(scientific),
        num_ten_digits=len(ten_digits),
        num_short_stamps=int(ten_digits.str.contains(_SHORT_STAMP).sum()),
        num_serials=int(serials.cast(pl.Float64).is_between(*_SERIALS).sum()),
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
    if evidence.num_short_stamps >= _MIN_STAMPS and evidence.num_short_stamps == evidence.num_ten_digits:
        raise UserError(
            f"column '{column_name}': its numbers of ten digits look like YYMMDDHHMM (2503011405), and would "
            "be read as seconds since 1970. Write times as 2025-03-01 14:05; or set `time_unit: s` if "
            "they are seconds"
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


def _refuse_turned_dates(evidence: TimeEvidence, column_name: str) -> None:
    """Refuses dates of which a spreadsheet has turned those that it could read: 3 April became 4 March.

    Read like the certain ones they spread over the year; turned back they lie where the certain ones do.
    """
    is_day_first = evidence.num_day_first > 0
    as_read, turned = evidence.months_if_day_first, evidence.months_if_month_first
    if not is_day_first:
        as_read, turned = turned, as_read
    certain = evidence.certain_months
    lies_beyond = (
        as_read.low < certain.low - _MOST_MONTHS_BEYOND or as_read.high > certain.high + _MOST_MONTHS_BEYOND
    )
    fits_turned = turned.low >= certain.low - 1 and turned.high <= certain.high + 1
    num_certain = evidence.num_day_first + evidence.num_month_first
    if min(evidence.num_open, num_certain) >= _MIN_DATES and lies_beyond and fits_turned:
        first, other = ("day", "month") if is_day_first else ("month", "day")
        raise UserError(
            f"column '{column_name}': in {num_certain:,} dates the {first} certainly stands first; read so, "
            f"{evidence.num_open:,} others such as '{evidence.example}' lie in other months than these, but "
            f"would not if the {other} stood first. A spreadsheet seems to have turned them. Export the "
            f"dates as 2025-03-01; or set `day_first: {str(is_day_first).lower()}` if they are right"
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
        _refuse_turned_dates(evidence, column_name)
        return evidence.num_day_first > 0
    if evidence.num_open:
        raise UserError(
            f"column '{column_name}': '{evidence.example}' may be two days, and no date of the column tells "
            "which number is the day; set `day_first: true` or `day_first: false` of this source"
        )
    return None
