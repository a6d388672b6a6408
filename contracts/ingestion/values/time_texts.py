"""Moments that are written as texts: by databases, spreadsheets and people of many languages."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from contracts.ingestion.values.cell_texts import write_in_plain_characters
from contracts.table_schema import UTC_TIME

NUMBER: Final = r"^\d+(?:\.\d+)?$"
UTC_SIGN: Final = r"(?:Z|\+00:00)$"
ZONE_NAME: Final = r" ([A-Z][A-Za-z]+(?:/[A-Za-z_]+){1,2})$"
"""2025-03-01 14:30:00 Europe/Berlin"""
COMMON_FORM: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|\+00:00)?$"
)
"""How most logs write times: it is read at once, where the forms of people take a search each."""
_MONTH_BEGINNINGS: Final = (
    "jan ene gen янв",
    "feb fev fév фев",
    "mar mär mrt maa мар",
    "apr avr abr апр",
    "may mai mei mag май мая",
    "jun giu июн",
    "jul lug июл",
    "aug ago aoû aou авг",
    "sep set сен",
    "oct okt out ott окт",
    "nov ноя",
    "dec dez dic déc дек",
)
_MONTHS: Final = {
    name: f"{number:02}" for number, names in enumerate(_MONTH_BEGINNINGS, start=1) for name in names.split()
}
"""First three letters of a month's name, in the languages of most shops -> its number."""
_ZONE_OFFSETS: Final = {
    **{"EST": "-05:00", "EDT": "-04:00", "MDT": "-06:00", "PST": "-08:00", "PDT": "-07:00"},
    **{"CET": "+01:00", "CEST": "+02:00", "EET": "+02:00", "EEST": "+03:00", "WEST": "+01:00"},
    **{"WET": "+00:00", "MSK": "+03:00", "JST": "+09:00", "KST": "+09:00"},
}
"""Short names of zones that mean one thing only. CST, IST and BST name several, and are not read."""
_HOUR: Final = r"(?P<hour>\d{1,2})"
_MINUTE: Final = r"(?P<minute>\d{2})"
_SECOND: Final = r"(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)"
_CLOCK: Final = rf"{_HOUR}:{_MINUTE}{_SECOND}?"
_DAY: Final = r"(?P<day>\d{1,2})"
_YEAR: Final = r"(?P<year>\d{4})"
_ANY_YEAR: Final = r"(?P<year>\d{4}|\d{2})"
_WEEKDAY: Final = r"(?:\p{L}{2,10}\.?,? )?"
_ZONE: Final = r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?P<zone>(?:Z|z|UTC|GMT|UT)?(?:[+-]\d{2}(?::?\d{2})?)?)$"
_MONTH: Final = r"(?P<month>\p{L}{3,})\.?"
_TEXT_FORMS: Final = {
    # Some logs name the hour alone.
    "year_first": (
        rf"^{_YEAR}[-/.](?P<month>\d{{1,2}})[-/.]{_DAY}(?:[T ]+{_HOUR}(?::{_MINUTE}{_SECOND}?)?)?{_ZONE}"
    ),
    "compact": (
        rf"^{_YEAR}(?P<month>\d{{2}})(?P<day>\d{{2}})[T ](?P<hour>\d{{2}}):?(?P<minute>\d{{2}})"
        rf"(?::?(?P<second>\d{{2}})(?:[.,](?P<fraction>\d{{1,9}}))?)?{_ZONE}"
    ),
    # Without seconds it would be the number of an order, too.
    "compact_dashed": (
        rf"^{_YEAR}(?P<month>\d{{2}})(?P<day>\d{{2}})[_-](?P<hour>\d{{2}}):?(?P<minute>\d{{2}}):?"
        rf"(?P<second>\d{{2}})(?:[.,](?P<fraction>\d{{1,9}}))?{_ZONE}"
    ),
    # As DB2 writes it.
    "dashed": (
        rf"^{_YEAR}-(?P<month>\d{{2}})-{_DAY}-(?P<hour>\d{{2}})\.(?P<minute>\d{{2}})\.(?P<second>\d{{2}})"
        rf"(?:\.(?P<fraction>\d{{1,9}}))?{_ZONE}"
    ),
    "dotted": rf"^{_DAY}\.(?P<month>\d{{1,2}})\.{_ANY_YEAR}(?:,?[T ]+{_CLOCK})?{_ZONE}",
    "slashed": (
        rf"^(?P<first>\d{{1,2}})(?:/|-)(?P<other>\d{{1,2}})(?:/|-){_ANY_YEAR}(?:,?[T ]+{_CLOCK})?{_ZONE}"
    ),
    "day_and_name": (
        rf"^{_WEEKDAY}{_DAY}(?:\.|st|nd|rd|th)?(?: de)?[-/ ]{_MONTH}(?: de)?[-/ ,]+{_ANY_YEAR}"
        rf"(?:[:T, ]+{_CLOCK})?{_ZONE}"
    ),
    "name_and_day": rf"^{_WEEKDAY}{_MONTH} {_DAY}(?:st|nd|rd|th)?,? {_YEAR}(?:[T, ]+{_CLOCK})?{_ZONE}",
    "name_day_dashed": rf"^{_MONTH}-{_DAY}-{_ANY_YEAR}(?:[T, ]+{_CLOCK})?{_ZONE}",
    "year_last": rf"^{_WEEKDAY}{_MONTH} {_DAY} {_CLOCK} (?P<zone>(?:UTC|GMT)?(?:[+-]\d{{4}})?) ?{_YEAR}$",
    "zone_last": rf"^{_WEEKDAY}{_MONTH} {_DAY} {_CLOCK} {_YEAR}{_ZONE}",
    # As SAS writes it.
    "joined": rf"^{_DAY}(?P<month>\p{{L}}{{3}}){_ANY_YEAR}(?:[:T, ]+{_CLOCK})?{_ZONE}",
}
SLASHED: Final = _TEXT_FORMS["slashed"]
_PARTS: Final = ("year", "month", "day", "hour", "minute", "second", "fraction", "half", "zone")
_PLAIN_TIME: Final = r"^[0-9./:TZ+-]*[0-9Z](?: \d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?(?: ?[Z+-][0-9:]*)?$"
"""Needs no cleaning. Also numbers, and forms that nothing reads."""
_FILLED: Final = (
    r"^\[|^\d{4}\. ?\d|\d[hH]\d|\d\.\d\d$|:\d\d:\d{3}$|[aApP](?:\. ?| )[mM]|Uhr$|m=|[+-]\d{4} [A-Z]"
    r"|\d,? (?:\u0433|kl|a las|às|at|à|um|o godz|@)|(?:UTC|GMT) ?[+-]\d(?::|$)"
)
"""A time that may hold what `_drop_filling_words` takes out: one look saves a dozen."""
_FOREIGN_CLOCK: Final = r"(\d{1,2}:\d{2}(?::\d{2})?)"


def read_common_times(texts: pl.Series, zone: str) -> pl.Series:
    """Reads the texts of `COMMON_FORM`; null for all others."""
    is_common = texts.str.contains(COMMON_FORM).fill_null(False)
    if not is_common.any():
        return pl.Series(texts.name, [None], UTC_TIME).new_from_index(0, len(texts))
    common = texts.set(~is_common, None)
    is_utc = common.str.contains(UTC_SIGN).fill_null(False)
    local = (
        common.str.replace(UTC_SIGN, "")
        .str.replace("T", " ", literal=True)
        .str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    )
    return local.dt.replace_time_zone("UTC").zip_with(is_utc, place_in_zone(local, zone))


def clean_time_texts(texts: pl.Series) -> pl.Series:
    """Texts without quotation marks, bracketed zones and remarks, and with single blanks.

    What other languages and tools put around the same digits becomes what the forms here know.
    """
    plain = texts.str.strip_chars("\"' \t\ufeff\u00a0\u201c\u201d\u201e")
    is_odd = ~plain.str.contains(_PLAIN_TIME).fill_null(True)
    return plain.scatter(is_odd.arg_true(), _clean_odd_texts(plain.filter(is_odd))) if is_odd.any() else plain


def _clean_odd_texts(texts: pl.Series) -> pl.Series:
    """Texts with letters or other signs in them: few logs hold any, and each search costs a look at all."""
    plain = texts
    if not plain.str.contains(r"^[\x00-\x7f]*$").fill_null(True).all():
        plain = _write_in_common_signs(plain)
    plain = (
        plain.str.replace(r"\[[A-Za-z_/+-]+\d*\]$", "")
        .str.replace(r"^\\?/Date\((\d+)(?:[+-]\d{4})?\)\\?/$", "$1")
        .str.replace(r"\s*\([^)]*\)$", "")
        .str.replace_all(r"\s+", " ")
    )
    if plain.str.starts_with("{").any():
        # MongoDB's export wraps times.
        wrapped = r'^\{\s*"\$date"\s*:\s*(?:\{\s*"\$numberLong"\s*:\s*)?"?([^"}]+?)"?\s*[}\s]+$'
        plain = plain.str.replace(wrapped, "$1")
    if plain.str.contains(",", literal=True).any():
        # The days of a spreadsheet with a decimal comma; numbers with thousands.
        is_grouped = plain.str.contains(r"^\d{1,3}(?:,\d{3}){2,}$").fill_null(False)
        plain = plain.str.replace_all(",", "", literal=True).zip_with(is_grouped, plain)
        plain = plain.str.replace(r"^(\d{5}),(\d+)$", "$1.$2")
    if plain.str.contains(_FILLED).any():
        plain = _drop_filling_words(plain)
    # Oracle writes 09.30.15.000000 PM.
    plain = plain.str.replace(r" (\d{1,2})\.(\d{2})\.(\d{2})(\.\d+)? ?([AaPp][Mm])", " $1:$2:$3$4 $5")
    return _replace_zone_names(plain)


def _drop_filling_words(texts: pl.Series) -> pl.Series:
    """Times without what people and tools write between day, clock and zone."""
    return (
        texts.str.replace(r"^\[([^\]]+)\]$", "$1")
        # Hungarian and Korean dates end in a point, and have blanks inside.
        .str.replace(r"^(\d{4})\. ?(\d{1,2})\. ?(\d{1,2})\.(?: |$)", "$1-$2-$3 ")
        .str.replace(r"(\d),? (?:\u0433\.|kl\.|klo|a las|às|at|à|um|o godz\.|@) ?(\d)", "$1 $2")
        .str.replace(r"(\d) (\d{1,2})\.(\d{2})(?:\.(\d{2}))?$", "$1 $2:$3:$4")
        .str.replace(r"(\d) (\d{1,2})[hH](\d{2})$", "$1 $2:$3")
        .str.replace(r"(\d{2}:\d{2}:\d{2}):(\d{3})$", "$1.$2")
        .str.replace(r" ?Uhr$", "")
        .str.replace(r"(?i)\b([ap])\.? ?m\b\.?", "${1}m")
        # Go names the zone twice, and adds its own clock.
        .str.replace(r"([+-]\d{4}) (?:UTC|GMT|[A-Z]{3,4})(?: m=.*)?$", "$1")
        .str.replace(r"(UTC|GMT) ?([+-])(\d)(?::?(\d{2}))?$", "${1}${2}0$3:$4")
        .str.replace(r":$", "")
    )


def _replace_zone_names(texts: pl.Series) -> pl.Series:
    # Java writes the zone before the year.
    texts = texts.str.replace(rf"(:\d\d) ({'|'.join(_ZONE_OFFSETS)}) (\d{{4}})$", "$1 $3 $2")
    named = rf"\d ?(?:[AaPp][Mm] )?({'|'.join(_ZONE_OFFSETS)})$"
    if not texts.str.contains(named).any():
        return texts
    offsets = texts.str.extract(named, 1).replace(_ZONE_OFFSETS)
    written = texts.to_frame("text").with_columns(offset=offsets)
    bare = pl.col("text").str.replace(r" ?[A-Z]{3,4}$", "")
    has_offset = pl.col("offset").is_not_null()
    return written.select(pl.when(has_offset).then(bare + pl.col("offset")).otherwise("text")).to_series()


def _write_in_common_signs(texts: pl.Series) -> pl.Series:
    """Dates and clocks of East Asia with the signs of ISO, and all digits as those of ASCII."""
    return (
        write_in_plain_characters(texts)
        .str.replace(r"(\d{4})\s*[年년]\s*(\d{1,2})\s*[月월]\s*(\d{1,2})\s*[日일]?", "$1-$2-$3")
        .str.replace(r"(\d{1,2})\s*[时時点시]\s*(\d{1,2})\s*[分분]\s*(?:(\d{1,2})\s*[秒초])?", "$1:$2:$3")
        .str.replace(r":$", "")
        .str.replace(rf"(?:上午|午前|오전)\s*{_FOREIGN_CLOCK}", " $1 AM")
        .str.replace(rf"(?:下午|午後|오후)\s*{_FOREIGN_CLOCK}", " $1 PM")
        .str.replace(r"\s*\([^)\d]*\)\s*", " ")
        .str.strip_chars()
    )


def read_text_times(texts: pl.Series, zone: str, day_first: bool | None) -> pl.Series:
    """Reads texts in one of the forms; null for all others.

    Args:
        texts: from `clean_time_texts`.
        zone: of times that name none.
        day_first: whether 03/04/2025 is April; None where no cell is written so.
    """
    moments = pl.Series(texts.name, [None], UTC_TIME).new_from_index(0, len(texts))
    for rows, named_zone in _find_named_zones(texts):
        bare = texts.gather(rows).str.replace(ZONE_NAME, "")
        moments = moments.scatter(rows, read_text_times(bare, named_zone, day_first))
    # No form is a plain number.
    is_open = ~texts.str.contains(NUMBER).fill_null(True)
    for form, pattern in _TEXT_FORMS.items():
        open_rows = (is_open & moments.is_null()).arg_true()
        if not len(open_rows):
            break
        groups = texts.gather(open_rows).str.extract_groups(pattern).struct.unnest()
        if form == "slashed" and day_first is not None:
            day, month = ("first", "other") if day_first else ("other", "first")
            groups = groups.rename({day: "day", month: "month"})
        if "day" in groups.columns and groups["day"].null_count() < len(groups):
            moments = moments.scatter(open_rows, _build_moments(groups, zone))
    return moments


def _find_named_zones(texts: pl.Series) -> Iterator[tuple[pl.Series, str]]:
    """Rows whose times end in the name of a zone, as Trino writes them, and that name, zone by zone."""
    if not texts.str.contains(ZONE_NAME).any():
        return
    names = texts.str.extract(ZONE_NAME, 1)
    for name in names.drop_nulls().unique():
        if is_zone(name):
            yield (names == name).fill_null(False).arg_true(), name


def _build_moments(groups: pl.DataFrame, zone: str) -> pl.Series:
    absent = [pl.lit(None, pl.String).alias(name) for name in _PARTS if name not in groups.columns]
    parts = groups.with_columns(absent).with_columns(
        pl.when(pl.col(name) != "").then(pl.col(name)) for name in ("half", "zone", "hour", "fraction")
    )
    name = pl.col("month").str.to_lowercase().str.normalize("NFC")
    # Two French months begin alike.
    name = name.str.replace("^juil", "jul").str.replace("^juin", "jun")
    month = name.str.slice(0, 3).replace(_MONTHS)
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
    return zoned.zip_with(parts["zone"].is_not_null(), place_in_zone(moments, zone))


def is_zone(name: str) -> bool:
    """Whether a zone has such a name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return False
    return True


def place_in_zone(local: pl.Series, zone: str) -> pl.Series:
    """Local times as UTC. Of an hour that the clock shows twice the first is taken; one that it skips is read
    as if the clock had not been put forward."""
    if zone == "UTC":
        return local.dt.replace_time_zone("UTC").cast(UTC_TIME)
    moments = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    skipped = (local - timedelta(hours=1)).dt.replace_time_zone(
        zone, ambiguous="earliest", non_existent="null"
    )
    return moments.fill_null(skipped + timedelta(hours=1)).cast(UTC_TIME)
