"""The tables that flow between the steps (DESIGN section 4): one `Table` object each."""

from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import polars as pl

from contracts.table_schema import UTC_TIME, Column, ColumnRule, Table

EventType = Literal["impression", "click", "cart", "order"]
EVENT_TYPES: Final[tuple[str, ...]] = get_args(EventType)
Scene = Literal["home", "category", "search", "cart", "similar"]
SCENES: Final[tuple[str, ...]] = get_args(Scene)
"""Where a page is shown; a log that does not say has null."""
MAX_ID_LENGTH: Final = 1024
"""Most characters of an id, wherever one comes in: URLs and composite keys fit. Beyond that it must only hold
something else than white space; every other character is kept as it is."""
MAX_CONTEXT_LENGTH: Final = 512
"""Most characters that are read of a query, category or device. The rest says little, and every exposure
would repeat it."""
MAX_PRICE: Final = 1e12
"""A price above this is none: even the smallest currency's prices stay far below, and sums stay finite."""
EARLIEST_TIME: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""Before this a clock was not set, or a number was read in the wrong unit."""
FACETS: Final = ("demands", "audiences", "scenarios", "attributes", "complements", "substitutes", "lifecycle")
"""The list-valued parts of a knowledge record, in the order in which they are printed and embedded."""

CLAIM_TYPE: Final = pl.Struct(
    {"text": pl.String(), "evidence": pl.String(), "source": pl.String(), "confidence": pl.Float32()}
)
"""One claim of a knowledge record; `source` is `catalogue` or `reasoning`."""


def _require_one_of(allowed: tuple[str, ...]) -> dict[str, ColumnRule]:
    return {f"not one of {', '.join(allowed)}": lambda value: value.is_in(list(allowed))}


def _is_finite_amount(value: pl.Expr) -> pl.Expr:
    return value.is_finite() & (value >= 0)


_NOT_EMPTY: dict[str, ColumnRule] = {"empty": lambda value: value.str.strip_chars() != ""}
_ID_RULES: dict[str, ColumnRule] = _NOT_EMPTY | {
    f"longer than {MAX_ID_LENGTH} characters": lambda value: value.str.len_chars() <= MAX_ID_LENGTH
}
_AT_LEAST_ONE: dict[str, ColumnRule] = {"below 1": lambda value: value >= 1}
_AMOUNT: dict[str, ColumnRule] = {"not a finite number >= 0": _is_finite_amount}
_PRICE_RULES: dict[str, ColumnRule] = _AMOUNT | {
    f"above {MAX_PRICE:g}": lambda value: (value <= MAX_PRICE) | ~value.is_finite()
}
_FINITE_LIST: dict[str, ColumnRule] = {
    "holds a value that is not finite": lambda v: v.list.eval(pl.element().is_finite()).list.all()
}


TABLES: Final[dict[str, Table]] = {}
"""Every table below, by name."""


def _define_table(name: str, key: tuple[str, ...], doc: str, *columns: Column) -> Table:
    TABLES[name] = Table(name, key, columns, doc)
    return TABLES[name]


def _text_column(name: str, doc: str, **options: Any) -> Column:
    return Column(name, pl.String(), doc, **options)


def _key_column(name: str, doc: str) -> Column:
    return _text_column(name, doc, rules=_ID_RULES)


_ITEM = _key_column("item_id", "Item id; integers are read as their decimal text.")
_USER = _key_column("user_id", "User id; integers are read as their decimal text.")
_TIME = Column("timestamp", UTC_TIME, "When it happened.")
_STAMP = Column("event_timestamp", UTC_TIME, "The value is known from this time on (point-in-time joins).")
_SPACE = _key_column("space", "Version of the embedding space.")
_ARM = _text_column("arm", "Experiment arm.", nullable=True)
REQUEST_CONTEXT: Final = (
    _text_column("scene", "Where the page is shown.", nullable=True, rules=_require_one_of(SCENES)),
    _text_column("page_category", "Category path of the page that was opened.", nullable=True),
    _text_column("query", "What was searched for.", nullable=True),
    _text_column("seed_item_id", "The item that the page is about (scene similar, cart).", nullable=True),
    _text_column("device", "Kind of device, as the shop names it.", nullable=True),
)
"""What surrounds a request: the same columns wherever a request is told of. All may be null."""
CONTEXT_COLUMNS: Final = tuple(column.name for column in REQUEST_CONTEXT)
_PROPENSITY_DOC = "Probability with which the policy showed the item at this position."
_PROPENSITY_RULES: dict[str, ColumnRule] = {"not in (0, 1]": lambda value: (value > 0) & (value <= 1)}
PROPENSITY: Final = Column(
    "propensity", pl.Float32(), _PROPENSITY_DOC, nullable=True, rules=_PROPENSITY_RULES
)

ITEMS: Final = _define_table(
    "items",
    ("item_id",),
    "The product catalogue, one row per item.",
    _ITEM,
    _text_column("title", "Title as shown to users.", rules=_NOT_EMPTY),
    _text_column("brand", "Brand.", nullable=True),
    _text_column("category", "Category path, general to special: 'A > B > C'.", nullable=True),
    _text_column("description", "Free text.", nullable=True),
    Column("price", pl.Float64(), "Price in the shop's currency.", nullable=True, rules=_PRICE_RULES),
    Column("available_at", UTC_TIME, "First time the item could be shown.", nullable=True),
)

EVENTS: Final = _define_table(
    "events",
    ("user_id", "timestamp", "item_id", "event_type"),
    "The behavior log, one row per event.",
    _USER,
    _TIME,
    _ITEM,
    _text_column("event_type", "What the user did.", rules=_require_one_of(EVENT_TYPES)),
    Column("price", pl.Float64(), "Price paid or shown.", nullable=True, rules=_PRICE_RULES),
    Column("quantity", pl.Int32(), "Units ordered.", nullable=True, rules=_AT_LEAST_ONE),
    Column("returned", pl.Int32(), "Units of them that came back.", nullable=True, rules=_AT_LEAST_ONE),
    _text_column("request_id", "The ranking request that showed the item.", nullable=True),
    Column("position", pl.Int32(), "Rank in that request, from 0.", nullable=True),
    _ARM,
    *REQUEST_CONTEXT,
    PROPENSITY,
)
KEPT_UNITS: Final = pl.col("quantity").fill_null(1) - pl.col("returned").fill_null(0)
"""Units of an order that its user kept. Labels and revenue count these. Histories hold the order all the
same: when a ranking was asked for, nobody knew that it would come back."""

KNOWLEDGE: Final = _define_table(
    "knowledge",
    ("item_id",),
    "Structured product knowledge, one row per item.",
    _ITEM,
    _text_column("summary", "What the product is, one sentence.", nullable=True),
    *(Column(facet, pl.List(CLAIM_TYPE), f"Claims on {facet}.", nullable=True) for facet in FACETS),
    Column("confidence", pl.Float32(), "Mean confidence of the claims, in [0, 1].", nullable=True),
    _text_column("teacher", "Name and version of the teacher."),
    _text_column("prompt_version", "Version of the prompt set."),
    _text_column("source_digest", "Digest of the catalogue row that was read."),
    _text_column("status", "Outcome.", rules=_require_one_of(("ok", "unknown", "invalid"))),
)

ITEM_EMBEDDINGS: Final = _define_table(
    "item_embeddings",
    ("item_id",),
    "Item representations, one row per item.",
    _ITEM,
    Column(
        "embedding",
        pl.List(pl.Float32()),
        "Aspects of unit norm (`embedding_aspects.py`).",
        rules=_FINITE_LIST,
    ),
    Column("semantic_id", pl.List(pl.Int32()), "One code per level, unique per item."),
    _SPACE,
    _STAMP,
)

INFERRED_BEHAVIORS: Final = _define_table(
    "inferred_behaviors",
    ("user_id", "event_timestamp"),
    "Behaviors that the log does not hold, one row per user and snapshot.",
    _USER,
    Column("inferred_item_ids", pl.List(pl.String()), "Inferred items, best first; none was logged before."),
    Column("inferred_scores", pl.List(pl.Float32()), "Confidence of each, in (0, 1].", rules=_FINITE_LIST),
    _text_column("behavior_model_version", "Behavior model that inferred them."),
    _SPACE,
    _STAMP,
)

USER_BEHAVIORS: Final = _define_table(
    "user_behaviors",
    ("user_id", "event_timestamp"),
    "A user's last behaviors as of `event_timestamp` (inclusive).",
    _USER,
    Column("history_item_ids", pl.List(pl.String()), "The latest N items, newest first."),
    Column("history_event_types", pl.List(pl.String()), "Event type of each."),
    Column("history_ages_s", pl.List(pl.Int64()), "Age of each at `event_timestamp`, seconds."),
    Column("history_micros", pl.List(pl.Int64()), "Microseconds of each beyond its second.", nullable=True),
    _STAMP,
)

EXPOSURES: Final = _define_table(
    "exposures",
    ("request_id", "item_id"),
    "What was shown, one row per request and item.",
    _key_column("request_id", "The ranking request."),
    _ITEM,
    _USER,
    _TIME,
    _text_column("arm", "Experiment arm that answered."),
    _text_column("model_version", "Ranker version that scored, or what stood in for it."),
    _text_column(
        "routed_version",
        "Ranker version that the user was routed to; comparisons go by it, whoever scored.",
    ),
    Column("score", pl.Float64(), "Score it was ranked by."),
    Column("position", pl.Int32(), "Rank shown, from 0."),
    Column("degraded", pl.List(pl.String()), "What was missing when it was scored; empty when nothing was."),
    *REQUEST_CONTEXT,
    PROPENSITY,
)

ANSWERS: Final = _define_table(
    "answers",
    ("request_id", "failure"),
    "How requests were answered, one row per request, and one per cause of failure before it.",
    _key_column("request_id", "The ranking request."),
    _TIME,
    _text_column("arm", "Experiment arm that answered."),
    _text_column("routed_version", "Ranker version that the user was routed to."),
    Column(
        "latency_ms",
        pl.Float64(),
        "Time in the gateway, from the request to its logged answer; null where an older gateway answered.",
        nullable=True,
        rules=_AMOUNT,
    ),
    _text_column("failure", "Why there was no answer; null where there was one.", nullable=True),
    Column("degraded", pl.List(pl.String()), "What the answer, or any item of it, did without."),
)

OUTCOMES: Final = _define_table(
    "outcomes",
    ("request_id", "item_id"),
    "What users did with what was shown, one row per request and item.",
    _key_column("request_id", "The ranking request."),
    _ITEM,
    _USER,
    _TIME,
    Column("click", pl.Boolean(), "Was it clicked?"),
    Column("order", pl.Boolean(), "Was it ordered?"),
    Column(
        "revenue",
        pl.Float64(),
        "Revenue of the order, shop currency; null where neither order nor catalogue has a price.",
        nullable=True,
        rules=_AMOUNT,
    ),
    Column(
        "orders_without_price",
        pl.Int32(),
        "Orders that came without a price: revenue takes the catalogue's. Null where nobody counted.",
        nullable=True,
    ),
)

RANKING_LISTS: Final = _define_table(
    "ranking_lists",
    ("list_id",),
    "What rankers are trained and measured on, one row per list.",
    _key_column("list_id", "One ranking list: a request, or a target with its sampled negatives."),
    _USER,
    Column("timestamp", UTC_TIME, "Time of the request or target; features are joined strictly before it."),
    _text_column("split", "Part of the log.", rules=_require_one_of(("train", "validation", "test"))),
    _text_column(
        "protocol",
        "How the list was made: impressions, contemporaneous, catalogue, within_cold, within_unseen.",
    ),
    Column("item_ids", pl.List(pl.String()), "Candidates."),
    Column("clicks", pl.List(pl.Boolean()), "Was each clicked (or is it the target)?"),
    Column("orders", pl.List(pl.Boolean()), "Was each ordered?"),
    Column("values", pl.List(pl.Float32()), "Revenue of each, 0 where not ordered or not known."),
    *REQUEST_CONTEXT,
    Column("propensities", pl.List(pl.Float32()), f"{_PROPENSITY_DOC[:-1]}, of each.", nullable=True),
)

TRAINING_SET: Final = _define_table(
    "training_set",
    ("list_id",),
    "Ranking lists with the user features of their own time, joined point-in-time.",
    *RANKING_LISTS.columns,
    *(
        Column(column.name, column.dtype, column.doc, nullable=True)
        for column in (*USER_BEHAVIORS.columns, *INFERRED_BEHAVIORS.columns)
        if column.name not in ("user_id", "event_timestamp", "history_micros")
    ),
    Column(
        "context_vector",
        pl.Binary(),
        "Where query, page or seed item lie in the item space: raw half floats.",
        nullable=True,
    ),
    Column("history_as_of", UTC_TIME, "Second of the history that was joined.", nullable=True),
    Column("inferred_as_of", UTC_TIME, "`event_timestamp` of the inference that was joined.", nullable=True),
)
