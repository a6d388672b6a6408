"""Why events name no item of the catalogue, where the ids of both tell."""

from collections import Counter
from collections.abc import Callable
from typing import Final

import polars as pl

from contracts.errors import UserError

_REPAIRS: Final[dict[str, Callable[[pl.Expr], pl.Expr]]] = {
    "leading zeros": lambda ids: ids.str.strip_chars_start("0"),
    "upper and lower case": lambda ids: ids.str.to_lowercase(),
    "Unicode's two forms of accents": lambda ids: ids.str.normalize("NFC"),
    "blanks, punctuation and case": lambda ids: ids.str.replace_all(r"[\W_]", "").str.to_lowercase(),
    "what stands around the digits": lambda ids: ids.str.extract(r"(\d+)"),
}
"""What ids may differ in, the least difference first."""
_SURE_REPAIRS: Final = tuple(_REPAIRS)[:-1]
"""Of a few ids it may be chance that their digits are those of an item."""
_MOST_NAMED: Final = 3
_MANY_EVENTS: Final = 3
"""An item that is missing in the catalogue by chance has fewer."""
_SEVERAL_IDS: Final = r"^[\[(]?\s*[\"']?([^;,|\"']+?)[\"']?\s*[;,|]"


def explain_unlisted(unlisted: Counter[str], catalogue: pl.DataFrame, num_rows: int) -> None:
    """Says why most events name no item of the catalogue, where the ids themselves tell.

    Raises:
        UserError: the ids would be those of the catalogue but for how they are written.
    """
    theirs = pl.DataFrame({"id": list(unlisted), "num_rows": list(unlisted.values())})
    ours = catalogue.select(pl.col("item_id").alias("ours"))
    said = f"{unlisted.total():,} of {num_rows:,} events name no item of the catalogue"
    several = theirs.with_columns(repaired=pl.col("id").str.extract(_SEVERAL_IDS, 1))
    joined = several.join(ours, left_on="repaired", right_on="ours")
    if joined["num_rows"].sum() > unlisted.total() / 2:
        raise UserError(
            f"{said}: a cell holds several ids, such as '{joined['id'][0][:80]}'. A log has a row for each; "
            "a query makes them: `unnest(string_split(item_id, ';')) as item_id`"
        )
    for difference in _REPAIRS:
        joined = _join_repaired(theirs, ours, difference)
        if joined["num_rows"].sum() > unlisted.total() / 2:
            raise UserError(f"{said}, but would without {difference}: {_show_both(joined)}")


def describe_repairable(unlisted: Counter[str], catalogue: pl.DataFrame) -> str:
    """Says which of a few events that name no item would name one, or else what most of them name; empty
    where neither says anything."""
    theirs = pl.DataFrame({"id": list(unlisted), "num_rows": list(unlisted.values())})
    ours = catalogue.select(pl.col("item_id").alias("ours"))
    for difference in _SURE_REPAIRS:
        joined = _join_repaired(theirs, ours, difference)
        if len(joined):
            return (
                f"{joined['num_rows'].sum():,} events would name an item of the catalogue without "
                f"{difference}: {_show_both(joined)}"
            )
    most = unlisted.most_common(_MOST_NAMED)
    if most[0][1] >= _MANY_EVENTS and sum(count for _, count in most) > unlisted.total() / 2:
        named = ", ".join(f"'{name[:40]}' ({count:,})" for name, count in most)
        return (
            f"of the items that the catalogue does not hold most events name {named}. Are these shipping, "
            "discounts or the like? Then leave them out by a query: ... where item_id not in (...)"
        )
    return ""


def _join_repaired(theirs: pl.DataFrame, ours: pl.DataFrame, difference: str) -> pl.DataFrame:
    repair = _REPAIRS[difference]
    our_forms = ours.with_columns(repaired=repair(pl.col("ours"))).drop_nulls().unique("repaired")
    repaired = theirs.with_columns(repaired=repair(pl.col("id")))
    return repaired.join(our_forms, on="repaired", maintain_order="left")


def _show_both(joined: pl.DataFrame) -> str:
    return (
        f"the log holds '{joined['id'][0]}', the catalogue '{joined['ours'][0]}'. Write the ids of both alike"
    )
