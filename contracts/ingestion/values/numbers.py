"""Numbers as people write them: with signs, currencies, thousands, and either decimal mark.

Which mark is the decimal one, the whole column says: `1.299,00` and `27,19` speak for the comma, `1,299.00`
and `27.19` for the point, `1,299` for nothing alone.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.values.cell_texts import write_in_plain_characters

DecimalMark = Literal["auto", ".", ","]
_CURRENCY: Final = (
    r"(?:\p{Sc}|[A-Za-z]{1,3}\p{Sc}|[A-Za-z]{2,3}\.?|[個个点件本枚개x\u00d7]|шт\.?|zł|元|円|원|руб\.?|р\.)"
)
_AMOUNT: Final = (
    rf"^(?P<open>\()?(?P<sign>[-+\u2212])?\s*(?P<before>{_CURRENCY})?\s*(?P<sign2>[-+\u2212])?\s*"
    rf"(?P<body>\d[\d.,'\u2019\s_]*|[.,]\d+)(?P<exponent>[eE][+-]?\d{{1,3}})?\s*"
    rf"(?P<sign3>-)?\s*(?P<after>{_CURRENCY})?\s*(?P<close>\))?$"
)
_TIMES_SIGNS: Final = ("x", "\u00d7")
"""Beside a quantity: `2x`."""
_NO_CENTS: Final = r"(\d)[.,][-\u2013\u2014]"
"""Shops leave the places of cents out: `8,- €`, `1'200.-`."""
SAME_CURRENCY: Final = {
    "$": "USD",
    "us$": "USD",
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY or CNY",
    "元": "JPY or CNY",
    "円": "JPY or CNY",
    "jpy": "JPY or CNY",
    "cny": "JPY or CNY",
    "rmb": "JPY or CNY",
    "₹": "INR",
    "rs": "INR",
    "rs.": "INR",
    "zł": "PLN",
}
_FORMS: Final = {
    "both_comma_last": r"^\d{1,3}(?:\.\d{3})+,\d+$",
    "both_point_last": r"^\d{1,3}(?:,\d{2,3})+\.\d+$",
    "comma_thousands": r"^\d{1,3}(?:,\d{3}){2,}$",
    "point_thousands": r"^\d{1,3}(?:\.\d{3}){2,}$",
    "comma_three": r"^[1-9]\d{0,2},\d{3}$",
    "point_three": r"^[1-9]\d{0,2}\.\d{3}$",
    "comma_decimal": r"^(?:\d*,(?:\d{1,2}|\d{4,})|0,\d{3}|\d{4,},\d{3})$",
    "point_decimal": r"^(?:\d*\.(?:\d{1,2}|\d{4,})|0\.\d{3}|\d{4,}\.\d{3})$",
}

_LONE_MARKS: Final = ("comma_three", "point_three")
"""Forms of cells that either mark could explain."""
_RARE: Final = 0.1
"""Most cells of three decimals, among those with any, that are doubted."""
_MIN_OPEN: Final = 3
"""Different amounts that either mark could explain: fewer may be chance."""


class NumberEvidence(NamedTuple):
    """How the cells of a number column are written."""

    form_counts: Mapping[str, int] = {}
    """Form of `_FORMS` -> cells."""
    currency_counts: Mapping[str, int] = {}
    """Currency -> cells that name it."""
    example: str = ""
    """A cell that either mark could explain."""
    negatives: frozenset[str] = frozenset()
    """Digits of the amounts below zero, no more than two of them."""

    def add(self, other: "NumberEvidence") -> "NumberEvidence":
        """Evidence of both."""
        return NumberEvidence(
            _add_counts(self.form_counts, other.form_counts),
            _add_counts(self.currency_counts, other.currency_counts),
            self.example or other.example,
            _keep_two(self.negatives | other.negatives),
        )


def collect_number_evidence(values: pl.Series) -> NumberEvidence:
    """Collects evidence of cells: numbers, or texts without missing words."""
    if values.dtype.is_numeric():
        below_zero = values.filter((values < 0).fill_null(False)).abs().cast(pl.Float64).cast(pl.String)
        return NumberEvidence(negatives=_list_amounts(below_zero))
    parts = _take_apart(values)
    # Before an exponent no mark divides thousands.
    body = parts["body"].set(parts["exponent"].is_not_null(), None)
    form_counts = {name: int(body.str.contains(form).sum()) for name, form in _FORMS.items()}
    open_cells = values.filter(body.str.contains(_FORMS["point_three"]).fill_null(False))
    return NumberEvidence(
        {name: count for name, count in form_counts.items() if count},
        dict(parts["currency"].drop_nulls().value_counts().iter_rows()),
        str(open_cells.min()) if len(open_cells) else "",
        _list_amounts(parts["body"].filter(parts["is_negative"])),
    )


def _list_amounts(digits: pl.Series) -> frozenset[str]:
    return _keep_two(digits.drop_nulls().str.replace(r"[.,]0+$", "").unique())


def _keep_two(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(sorted(texts)[:2])


def decide_decimal_mark(
    evidence: NumberEvidence,
    column_name: str,
    configured: DecimalMark,
    *,
    siblings: Iterable[NumberEvidence] = (),
) -> str:
    """Decides which mark divides whole and fraction; `mixed` where cells speak for both.

    Args:
        evidence: of the column.
        column_name: for the message.
        configured: what the user says.
        siblings: evidence of columns that the same tool writes in the same way. They decide where no cell of
            this one does: quantities such as `1,000` are ones in a file whose prices are `8,49`.

    Raises:
        UserError: nothing decides, or the amounts are in several currencies.
    """
    if len(evidence.currency_counts) > 1:
        listed = ", ".join(f"{name} {count:,} x" for name, count in evidence.currency_counts.items())
        raise UserError(
            f"column '{column_name}' holds amounts in several currencies ({listed}); they cannot be "
            "added up. Convert them to one"
        )
    if configured != "auto":
        return configured
    counts = evidence.form_counts
    for_comma, for_point = _count_votes(evidence)
    if not (for_comma or for_point) and any(counts.get(form) for form in _LONE_MARKS):
        for_comma, for_point = _agree(siblings)
    if for_comma and for_point:
        return "mixed"
    if for_comma:
        return ","
    if not for_point and counts.get("point_three"):
        raise UserError(
            f"column '{column_name}': '{evidence.example}' may be a thousand times more or less: no cell "
            "shows which mark is the decimal one; set `decimal` of this source to '.' or ','"
        )
    return "."


def _count_votes(evidence: NumberEvidence) -> tuple[int, int]:
    """Cells that speak for the comma, and for the point."""
    counts = evidence.form_counts
    return (
        sum(counts.get(form, 0) for form in ("both_comma_last", "comma_decimal", "point_thousands")),
        sum(counts.get(form, 0) for form in ("both_point_last", "point_decimal", "comma_thousands")),
    )


def _agree(siblings: Iterable[NumberEvidence]) -> tuple[int, int]:
    """Votes of several columns; none where they contradict each other."""
    votes = [_count_votes(sibling) for sibling in siblings]
    for_comma, for_point = sum(comma for comma, _ in votes), sum(point for _, point in votes)
    return (0, 0) if for_comma and for_point else (for_comma, for_point)


def doubt_three_decimals(evidence: NumberEvidence, decimal_mark: str, column_name: str) -> str:
    """Says that a few amounts of a column may be thousands, since all others have fewer decimals; empty where
    none is in doubt."""
    open_form, decimal_form = (
        ("point_three", "point_decimal") if decimal_mark == "." else ("comma_three", "comma_decimal")
    )
    num_open = evidence.form_counts.get(open_form, 0)
    num_decimal = evidence.form_counts.get(decimal_form, 0)
    if decimal_mark == "mixed" or not 0 < num_open <= _RARE * num_decimal:
        return ""
    example = f", such as '{evidence.example}'," if evidence.example else ""
    return (
        f"column '{column_name}': {num_open:,} different amounts{example} have three decimals where others "
        "have fewer, and are read so. Are they thousands? Then write the column with one mark"
    )


def refuse_other_marks(
    evidence: NumberEvidence,
    decimal_mark: str,
    column_name: str,
    file: str,
    *,
    siblings: Iterable[NumberEvidence] = (),
) -> None:
    """Refuses a file whose numbers may all be a thousand times what the other files' mark makes of them.

    Args:
        evidence: of the file alone.
        decimal_mark: what all files together say.
        column_name: for the message.
        file: for the message.
        siblings: evidence of columns of this file that are written in the same way.

    Raises:
        UserError: no cell of the file shows which mark is the decimal one.
    """
    counts = dict(evidence.form_counts)
    num_open = counts.pop("point_three" if decimal_mark == "." else "comma_three", 0)
    for_comma, for_point = _agree(siblings)
    is_confirmed = for_comma > 0 if decimal_mark == "," else for_point > 0
    if decimal_mark != "mixed" and num_open >= _MIN_OPEN and not counts and not is_confirmed:
        example = evidence.example or "1,299"
        raise UserError(
            f"column '{column_name}' of '{file}': '{example}' may be a thousand times more. No cell of this "
            "file shows which mark is the decimal one, and other files are written in another way. Set "
            f"`decimal: '{decimal_mark}'` if that is the mark here, too; or write the file like the others"
        )


def read_numbers(texts: pl.Series, decimal_mark: str) -> pl.Series:
    """Reads cells as Float64; null where one is no finite number.

    Args:
        texts: cells as text without missing words.
        decimal_mark: from `decide_decimal_mark`.
    """
    parts = _take_apart(texts)
    body = pl.col("body")
    plain: pl.Expr
    with_point = body.str.replace_all(",", "", literal=True)
    with_comma = body.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    if decimal_mark == "mixed":
        speaks_for_comma = _matches_any("both_comma_last", "comma_decimal", "point_thousands")
        is_open = _matches_any("comma_three", "point_three")
        plain = pl.when(speaks_for_comma).then(with_comma).when(~is_open).then(with_point)
    else:
        plain = with_comma if decimal_mark == "," else with_point
    # `1,5` read with the point would be 15: a mark in a place that thousands never have is an error.
    thousands_mark, point = (r"\.", ",") if decimal_mark == "," else (",", r"\.")
    is_well_formed = (
        pl.lit(True)
        if decimal_mark == "mixed"
        else body.str.contains(rf"^(?:\d+|\d{{1,3}}(?:{thousands_mark}\d{{2,3}})*)?(?:{point}\d*)?$")
    )
    value = (plain + pl.col("exponent").fill_null("")).cast(pl.Float64, strict=False)
    signed = pl.when(pl.col("is_negative")).then(-value).otherwise(value)
    kept = pl.when(is_well_formed & signed.is_finite()).then(signed)
    return parts.select(kept.alias(texts.name)).to_series()


def _take_apart(texts: pl.Series) -> pl.DataFrame:
    plain_texts = write_in_plain_characters(texts).str.strip_chars()
    if plain_texts.str.contains(_NO_CENTS).any():
        plain_texts = plain_texts.str.replace(_NO_CENTS, "$1")
    groups = plain_texts.str.extract_groups(_AMOUNT).struct.unnest()
    has_parenthesis = pl.col("open").is_not_null() & pl.col("close").is_not_null()
    signs = pl.concat_str("sign", "sign2", "sign3", ignore_nulls=True)
    unit = pl.coalesce("before", "after").str.to_lowercase()
    currency = pl.when(~unit.is_in(_TIMES_SIGNS)).then(unit)
    return groups.select(
        body=pl.col("body").str.replace_all(r"['\u2019\s_]", ""),
        exponent="exponent",
        is_negative=has_parenthesis | signs.str.contains(r"[-\u2212]"),
        currency=currency.replace(SAME_CURRENCY).str.strip_chars(".").str.to_uppercase(),
    )


def _matches_any(*form_names: str) -> pl.Expr:
    return pl.any_horizontal(pl.col("body").str.contains(_FORMS[name]) for name in form_names)


def _add_counts(ours: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    return {name: ours.get(name, 0) + theirs.get(name, 0) for name in (*ours, *theirs)}
