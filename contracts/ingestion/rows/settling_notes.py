"""What a user is told about how the rows of their log were settled."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

_NEARLY_ALL: Final = 0.9
_SENTENCES: Final = {
    "request_ids_of_several_users": "request ids are shared by several users; each user's are "
    "requests of their own",
    "impressions_without_request": "impressions name no request, and stand in no list that rankers learn "
    "from. Map what names a page (`columns: {request_id: ...}`), or make it by a query: "
    "`user_id || ' ' || timestamp as request_id`",
    "request_ids_used_again": "request ids are used again later; each time is a request of its own",
    "requests_told_after_their_outcomes": "requests were told after what was done on their page; they "
    "stand at its first moment",
    "behaviors_linked_by_time": "behaviors named no request that showed their item; they were joined by "
    "user, item and time",
    "behaviors_naming_an_unknown_request": "behaviors name a request that did not show their item",
    "behaviors_long_before_their_request": "behaviors stand long before the page that they name, and do "
    "not count as done on it; do both use one clock?",
    "orders_told_differently": "orders stand in several files at different prices or quantities; the "
    "one with most units counts, or else the first: leave the older file out",
    "returns_of_money": "returns are of clearly less than a unit cost: they lower the price of their "
    "order, and take back no unit",
    "returns_unmatched": "returns have no earlier order of the user and item in this log",
}
"""Count -> what follows its number."""


def describe_left_out(counts: Mapping[str, int]) -> dict[str, int]:
    """What a rule leaves out -> rows, of the counts of settling."""
    left_out = {
        "returns, noted at their orders": counts["returns"] - counts["returns_unmatched"],
        "returns without an earlier order": counts["returns_unmatched"],
        f"rows of {counts['bots']} bot(s)": counts["bot_rows"],
    }
    return {what: num_rows for what, num_rows in left_out.items() if num_rows}


def describe_settling(counts: Counter[str], bots: Sequence[str]) -> tuple[str, ...]:
    """What a user may want to know, a sentence each."""
    notes = [f"{counts[name]:,} {text}" for name, text in _SENTENCES.items() if counts.get(name)]
    if counts["clicks_long_after_their_request"] > counts["clicks_of_requests"] / 2:
        notes.append(
            f"{counts['clicks_long_after_their_request']:,} of {counts['clicks_of_requests']:,} clicks stand "
            "long after the page that they name (data.requests.window_minutes); do both use one clock?"
        )
    if counts["clicked_items"] > counts["shown_items"] / 2:
        notes.append(
            f"{counts['clicked_items']:,} of {counts['shown_items']:,} shown items were clicked: does the "
            "log hold what was shown, or only what somebody reacted to?"
        )
    if counts["pages_of_one_item"] > _NEARLY_ALL * counts["pages"]:
        notes.append(
            f"{counts['pages_of_one_item']:,} of {counts['pages']:,} requests show one item alone, and a "
            "ranker compares the items of one request: does request_id name single impressions?"
        )
    if counts.get("behaviors"):
        share = counts["behaviors_of_requests"] / counts["behaviors"]
        notes.append(f"{share:.1%} of the behaviors belong to a request")
    if counts["orders_without_price"]:
        notes.append(
            f"{counts['orders_without_price']:,} orders have no price and count at the catalogue's; "
            f"{counts['orders_of_unknown_revenue']:,} have none there either: their revenue is "
            "unknown, not zero"
        )
    if bots:
        notes.append(f"left out as bots (data.bots): {', '.join(bots[:5])}{' ...' if len(bots) > 5 else ''}")
    return tuple(notes)
