"""What titles look like where letters were lost on the way, and items that stand again at other prices."""

from typing import Final

import polars as pl

_LOST_LETTERS: Final = r"\x{FFFD}|\p{L}\?+\p{L}"
"""Signs in the place of letters that an encoding did not have."""
_READ_TWICE: Final = (
    r"[\x{C2}\x{C3}\x{D0}][\x{80}-\x{BF}\x{152}\x{161}\x{178}\x{2013}-\x{2122}]|\x{E2}\x{20AC}"
)
"""What UTF-8 looks like where a tool took each byte for a letter."""
_ENTITY: Final = r"&(?:[A-Za-z]{2,8}|#\d{1,6}|#x[0-9A-Fa-f]{1,6});"


def describe_catalogue(rows: pl.DataFrame) -> list[str]:
    """Says what a person should look at, a sentence each.

    Args:
        rows: contract ITEMS, in which an item may stand more than once; its first row counts.
    """
    titles = rows["title"]
    remedies = {
        _LOST_LETTERS: "have lost letters, which no tool brings back: export the catalogue again, as UTF-8",
        _READ_TWICE: "seem to be UTF-8 that was read as another encoding: export the catalogue again",
        _ENTITY: "hold signs as web pages write them, and are read so: write &amp; as &, and so on",
    }
    doubts = []
    for pattern, remedy in remedies.items():
        odd = titles.filter(titles.str.contains(pattern))
        if len(odd):
            doubts.append(f"{len(odd):,} titles, such as '{odd[0][:60]}', {remedy}")
    return doubts + _describe_differing(rows)


def _describe_differing(rows: pl.DataFrame) -> list[str]:
    """Says that items stand again at another price, as in a list of all their prices."""
    again = rows.select("item_id", "price").filter(pl.col("item_id").is_duplicated()).drop_nulls()
    if again.is_empty():
        return []
    prices = again.group_by("item_id", maintain_order=True).agg(pl.col("price").n_unique())
    differing = prices.filter(pl.col("price") > 1)["item_id"]
    if differing.is_empty():
        return []
    return [
        f"{len(differing):,} items, such as '{differing[0]}', stand more than once, at different prices; the "
        "first row of each counts. If the rows are of different days, put the newest first"
    ]
