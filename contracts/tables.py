"""The tables that flow between the steps (DESIGN section 4): one `Table` object each."""

from typing import Any, Final

import polars as pl

from contracts.schema import UTC_TIME, Column, Rule, Table

EVENT_TYPES: Final = ("impression", "click", "cart", "order")
FACETS: Final = ("demands", "audiences", "scenarios", "attributes", "complements", "substitutes", "lifecycle")
"""The list-valued parts of a knowledge record, in the order in which they are printed and embedded."""

CLAIM_TYPE: Final = pl.Struct(
    {"text": pl.String(), "evidence": pl.String(), "source": pl.String(), "confidence": pl.Float32()}
)
"""One claim of a knowledge record; `source` is `catalogue` or `reasoning`."""


def _one_of(allowed: tuple[str, ...]) -> dict[str, Rule]:
    return {f"not one of {', '.join(allowed)}": lambda value: value.is_in(list(allowed))}


def _not_negative(value: pl.Expr) -> pl.Expr:
    return value.is_finite() & (value >= 0)


_NOT_EMPTY: dict[str, Rule] = {"empty": lambda value: value.str.strip_chars() != ""}
_AMOUNT: dict[str, Rule] = {"not a finite number >= 0": _not_negative}
_FINITE_LIST: dict[str, Rule] = {
    "holds a value that is not finite": lambda v: v.list.eval(pl.element().is_finite()).list.all()
}


def _text(name: str, doc: str, **options: Any) -> Column:
    return Column(name, pl.String(), doc, **options)


def _key(name: str, doc: str) -> Column:
    return _text(name, doc, rules=_NOT_EMPTY)


_ITEM = _key("item_id", "Item id; integers are read as their decimal text.")
_USER = _key("user_id", "User id; integers are read as their decimal text.")
_TIME = Column("timestamp", UTC_TIME, "When it happened.")
_STAMP = Column("event_timestamp", UTC_TIME, "The value is known from this time on (point-in-time joins).")
_SPACE = _key("space", "Version of the embedding space.")
_ARM = _text("arm", "Experiment arm.", nullable=True)

ITEMS: Final = Table(
    "items",
    ("item_id",),
    (
        _ITEM,
        _text("title", "Title as shown to users.", rules=_NOT_EMPTY),
        _text("brand", "Brand.", nullable=True),
        _text("category", "Category path, general to special: 'A > B > C'.", nullable=True),
        _text("description", "Free text.", nullable=True),
        Column("price", pl.Float64(), "Price in the shop's currency.", nullable=True, rules=_AMOUNT),
        Column("available_at", UTC_TIME, "First time the item could be shown.", nullable=True),
    ),
    "The product catalogue, one row per item.",
)

EVENTS: Final = Table(
    "events",
    ("user_id", "timestamp", "item_id", "event_type"),
    (
        _USER,
        _TIME,
        _ITEM,
        _text("event_type", "What the user did.", rules=_one_of(EVENT_TYPES)),
        Column("price", pl.Float64(), "Price paid or shown.", nullable=True, rules=_AMOUNT),
        Column("quantity", pl.Int32(), "Units ordered.", nullable=True, rules={"below 1": lambda value: value >= 1}),
        _text("request_id", "The ranking request that showed the item.", nullable=True),
        Column("position", pl.Int32(), "Rank in that request, from 0.", nullable=True),
        _ARM,
    ),
    "The behaviour log, one row per event.",
)

KNOWLEDGE: Final = Table(
    "knowledge",
    ("item_id",),
    (
        _ITEM,
        _text("summary", "What the product is, one sentence.", nullable=True),
        *(Column(facet, pl.List(CLAIM_TYPE), f"Claims on {facet}.", nullable=True) for facet in FACETS),
        Column("confidence", pl.Float32(), "Mean confidence of the claims, in [0, 1].", nullable=True),
        _text("teacher", "Name and version of the teacher."),
        _text("prompt_version", "Version of the prompt set."),
        _text("source_digest", "Digest of the catalogue row that was read."),
        _text("status", "Outcome.", rules=_one_of(("ok", "unknown", "invalid"))),
    ),
    "Structured product knowledge, one row per item.",
)

ITEM_EMBEDDINGS: Final = Table(
    "item_embeddings",
    ("item_id",),
    (
        _ITEM,
        Column("embedding", pl.List(pl.Float32()), "Aspects of unit norm (`aspects.py`).", rules=_FINITE_LIST),
        Column("semantic_id", pl.List(pl.Int32()), "One code per level, unique per item."),
        _SPACE,
        _STAMP,
    ),
    "Item representations, one row per item.",
)

INFERRED_BEHAVIORS: Final = Table(
    "inferred_behaviors",
    ("user_id", "event_timestamp"),
    (
        _USER,
        Column("inferred_item_ids", pl.List(pl.String()), "Inferred items, best first; none was logged before."),
        Column("inferred_scores", pl.List(pl.Float32()), "Confidence of each, in (0, 1].", rules=_FINITE_LIST),
        _text("behavior_model_version", "Behaviour model that inferred them."),
        _SPACE,
        _STAMP,
    ),
    "Behaviours that the log does not hold, one row per user and snapshot.",
)

USER_BEHAVIORS: Final = Table(
    "user_behaviors",
    ("user_id", "event_timestamp"),
    (
        _USER,
        Column("history_item_ids", pl.List(pl.String()), "The latest N items, newest first."),
        Column("history_event_types", pl.List(pl.String()), "Event type of each."),
        Column("history_ages_s", pl.List(pl.Int64()), "Age of each at `event_timestamp`, seconds."),
        _STAMP,
    ),
    "A user's last behaviours as of `event_timestamp` (inclusive).",
)

EXPOSURES: Final = Table(
    "exposures",
    ("request_id", "item_id"),
    (
        _key("request_id", "The ranking request."),
        _ITEM,
        _USER,
        _TIME,
        _text("arm", "Experiment arm that answered."),
        _text("model_version", "Ranker version that scored, or what stood in for it."),
        _text("routed_version", "Ranker version that the user was routed to; comparisons go by it, whoever scored."),
        Column("score", pl.Float64(), "Score it was ranked by."),
        Column("position", pl.Int32(), "Rank shown, from 0."),
        Column("degraded", pl.List(pl.String()), "What was missing when it was scored; empty when nothing was."),
    ),
    "What was shown, one row per request and item.",
)

OUTCOMES: Final = Table(
    "outcomes",
    ("request_id", "item_id"),
    (
        _key("request_id", "The ranking request."),
        _ITEM,
        _USER,
        _TIME,
        Column("click", pl.Boolean(), "Was it clicked?"),
        Column("order", pl.Boolean(), "Was it ordered?"),
        Column("revenue", pl.Float64(), "Revenue of the order, shop currency.", rules=_AMOUNT),
    ),
    "What users did with what was shown, one row per request and item.",
)

RANKING_LISTS: Final = Table(
    "ranking_lists",
    ("list_id",),
    (
        _key("list_id", "One ranking list: a request, or a target with its sampled negatives."),
        _USER,
        Column("timestamp", UTC_TIME, "Time of the request or target; features are joined strictly before it."),
        _text("split", "Part of the log.", rules=_one_of(("train", "validation", "test"))),
        _text(
            "protocol", "How the list was made: impressions, contemporaneous, catalogue, within_cold, within_unseen."
        ),
        Column("item_ids", pl.List(pl.String()), "Candidates."),
        Column("clicks", pl.List(pl.Boolean()), "Was each clicked (or is it the target)?"),
        Column("orders", pl.List(pl.Boolean()), "Was each ordered?"),
        Column("values", pl.List(pl.Float32()), "Revenue of each, 0 where not ordered or not known."),
    ),
    "What rankers are trained and measured on, one row per list.",
)

TRAINING_SET: Final = Table(
    "training_set",
    ("list_id",),
    (
        *RANKING_LISTS.columns,
        *(
            Column(column.name, column.dtype, column.doc, nullable=True)
            for column in (*USER_BEHAVIORS.columns, *INFERRED_BEHAVIORS.columns)
            if column.name not in ("user_id", "event_timestamp")
        ),
        Column("history_as_of", UTC_TIME, "`event_timestamp` of the history that was joined.", nullable=True),
        Column("inferred_as_of", UTC_TIME, "`event_timestamp` of the inference that was joined.", nullable=True),
    ),
    "Ranking lists with the user features of their own time, joined point-in-time.",
)

TABLES: Final = {
    table.name: table
    for table in (
        ITEMS,
        EVENTS,
        KNOWLEDGE,
        ITEM_EMBEDDINGS,
        INFERRED_BEHAVIORS,
        USER_BEHAVIORS,
        EXPOSURES,
        OUTCOMES,
        RANKING_LISTS,
        TRAINING_SET,
    )
}
