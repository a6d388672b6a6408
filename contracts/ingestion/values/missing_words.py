"""Words that stand for nothing: what tools write where a cell is empty."""

from collections.abc import Sequence
from typing import Final

import polars as pl

MISSING_WORDS: Final = (
    "",
    "nan",
    "null",
    "none",
    "nil",
    "na",
    "n/a",
    "n.a.",
    "#n/a",
    "<na>",
    "nat",
    "\\n",
    "-",
    "--",
    "?",
    "undefined",
    "(null)",
    "[null]",
    "(none)",
    "(blank)",
    '""',
    "''",
    "#ref!",
    "#value!",
    "#name?",
    "#div/0!",
    "#num!",
    "#null!",
    "########",
    "#nv",
    "#wert!",
    "#bezug!",
    "#n/d",
    "#valeur!",
    "#¡valor!",
    "#¡ref!",
    "#н/д",
    "#знач!",
    "(leer)",
    "(vide)",
    "(en blanco)",
    "(пусто)",
    "(空白)",
    "k.a.",
    "keine angabe",
    "無し",
    "없음",
)
"""pandas, MySQL, Hive, R, JavaScript, spreadsheets of several languages. Compared without case and
surrounding blanks."""
GUEST_WORDS: Final = (
    "-1",
    "guest",
    "anonymous",
    "anon",
    "unknown",
    "not set",
    "(not set)",
    "not logged in",
    "guest user",
    "anonymous user",
    "visitor",
    "gast",
    "invité",
    "invitado",
    "ospite",
    "гость",
    "游客",
    "访客",
    "ゲスト",
    "not provided",
    "(not provided)",
    "nobody",
    "[object object]",
    "(anon)",
    "anonym",
    "anonyme",
    "gastkunde",
    "gastbesteller",
    "laufkunde",
    "laufkundschaft",
    "barverkauf",
    "walk-in",
    "walk in",
    "walk-in customer",
    "cash customer",
    "client comptoir",
    "client de passage",
    "consumidor final",
    "cliente mostrador",
    "cliente ocasional",
    "público en general",
    "publico en general",
    "cliente occasionale",
    "розничный покупатель",
    "散客",
    "匿名用户",
    "비회원",
    "00000000-0000-0000-0000-000000000000",
)
"""User ids that stand for everybody who did not log in, or paid at a till without a name."""
NO_REQUEST_WORDS: Final = ("-1", "00000000-0000-0000-0000-000000000000")
"""Request ids that trackers write where an event belongs to no request."""


def clean_texts(texts: pl.Series, words: Sequence[str]) -> pl.Series:
    """Texts without surrounding blanks; null where nothing is left or a word stands for nothing."""
    if texts.str.starts_with("=").any():
        # Spreadsheets keep texts that look like numbers as ="007".
        texts = texts.str.replace(r'^="([^"]*)"$', "$1")
    return texts.to_frame("text").select(_drop_missing_words(pl.col("text"), words)).to_series()


def _drop_missing_words(column: pl.Expr, words: Sequence[str]) -> pl.Expr:
    # U+FEFF, no-break spaces and NUL are not what `strip_chars` takes for blank.
    stripped = column.str.strip_chars().str.strip_chars("\ufeff\u00a0\u200b \t\x00")
    is_missing = stripped.str.to_lowercase().is_in([word.lower() for word in words])
    return pl.when(~is_missing & (stripped != "")).then(stripped)
