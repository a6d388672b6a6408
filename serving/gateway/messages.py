"""What the gateway takes and gives: the request and answer bodies, as in its OpenAPI description."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict  # pydantic takes the standard one from Python 3.12 on

from contracts.events.order_returns import RETURN, RETURN_TYPES, ReturnType
from contracts.tables import (
    EARLIEST_TIME,
    MAX_CONTEXT_LENGTH,
    MAX_ID_LENGTH,
    MAX_PRICE,
    EventType,
    Scene,
)
from serving.deployment.routes import Routes
from serving.experiments.arm_assignment import AssignmentSource

MAX_EVENTS: Final = 1000
"""Most events of one post: they are written and synced together, so more would keep other writers waiting."""

MAX_CLOCK_SKEW: Final = timedelta(minutes=10)
"""So much a client's clock may be ahead. Less than a quarter of an hour, the smallest step between time
zones: local time that is sent as UTC is refused."""
MAX_UNITS: Final = 2**31 - 1
"""Most units of one event: the tables hold 32 bits."""
FALLBACK: Final = "fallback"
"""Model version of answers that no model scored."""


def _clean_context_text(text: str) -> str | None:
    return text[:MAX_CONTEXT_LENGTH] or None


def _require_plausible_time(moment: datetime) -> datetime:
    try:
        utc_moment = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it lies before the year 1 or after 9999") from None
    if utc_moment < EARLIEST_TIME:
        raise ValueError(f"{utc_moment.isoformat()} is before {EARLIEST_TIME:%Y-%m-%d}; is the clock set?")
    if utc_moment > (now := datetime.now(UTC)) + MAX_CLOCK_SKEW:
        ahead = timedelta(seconds=round((utc_moment - now).total_seconds()))
        raise ValueError(
            f"{utc_moment.isoformat()} lies {ahead} ahead; a clock may be {MAX_CLOCK_SKEW} ahead, not more"
        )
    return utc_moment


def _require_distinct_items(item_ids: list[str]) -> list[str]:
    if len(set(item_ids)) != len(item_ids):
        repeated_ids = [item_id for item_id, count in Counter(item_ids).items() if count > 1]
        raise ValueError(f"each candidate may stand once; repeated: {', '.join(repeated_ids[:5])}")
    return item_ids


UtcMoment = Annotated[AwareDatetime, AfterValidator(_require_plausible_time)]
"""A moment from 1990 on and at most `MAX_CLOCK_SKEW` ahead of this machine's clock."""
# Constraints only: they are checked in Rust, and a page has a thousand ids. They refuse half characters (lone
# surrogates) as well, which no file can hold.
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"\S")]
ContextText = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_clean_context_text)]
"""Free text of a request: cut at `MAX_CONTEXT_LENGTH`, as in training. A blank one says nothing."""


class MessageBody(BaseModel):
    """A body: unknown fields are errors, so that a misspelt option does not pass in silence."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )


class RankContext(MessageBody):
    """What surrounds a request; the exposure carries it, so that a ranker can learn from it."""

    timestamp: UtcMoment | None = None
    """As of when to rank; now by default. For replays."""
    scene: Scene | None = None
    """Where the page is shown (`contracts.tables.SCENES`)."""
    page_category: ContextText | None = None
    """Category path of the page that was opened, as in the catalogue: `A > B > C`."""
    query: ContextText | None = None
    """What was searched for."""
    seed_item_id: Identifier | None = None
    """The item that the page is about (scenes `similar` and `cart`)."""
    device: ContextText | None = None
    """Kind of device, as the shop names it."""


class RankRequest(MessageBody):
    """Asks for an order of candidates for a user."""

    user_id: Identifier
    candidates: Annotated[list[Identifier], Field(min_length=1), AfterValidator(_require_distinct_items)]
    limit: int | None = Field(default=None, ge=1)
    """Answer only with the best so many; only they count as shown."""
    request_id: Identifier | None = None
    """Names the request in the logs; made up when not given."""
    context: RankContext = RankContext()


@with_config(ConfigDict(use_attribute_docstrings=True))
class RankedItem(TypedDict):
    """One item of the answer; a dictionary, since an answer has hundreds of them."""

    item_id: str
    score: float
    """What the list is sorted by, descending, but for the places that exploration drew."""
    propensity: float
    """Probability that this item stands here, given those above it; 1 where nothing was drawn."""
    click: float | None
    """Probability of a click; none where no model scored."""
    order: float | None
    """Probability of an order; none where no model scored."""
    value: float | None
    """Expected revenue of showing it; none where the model has no value head."""
    degraded: list[str]
    """What was missing for this item: `unknown_item`, `no_vector`."""


class RankResponse(MessageBody):
    """The ranked list."""

    request_id: str
    """The caller's, or made up; the logs name it."""
    arm: str
    """Arm of the ranker experiment that answered."""
    layers: dict[str, str]
    """Other experiments -> the user's arm."""
    assignment: AssignmentSource
    """`drawn` by the user's hash, `holdout`, or `forced` by the caller; only what was drawn is compared."""
    model_version: str
    """Version of the ranker, or `fallback`."""
    degraded: list[str]
    """What the whole answer had to do without: `no_history`, `no_inferred`, `no_context` (what the page is
    about could not be told to the model), `feature_store`, `model`, `event_log`, `event_sink`."""
    items: list[RankedItem]
    """In the order to show: best first, but for the places that exploration drew."""


class PostedEvent(MessageBody):
    """Something a user did, or was shown."""

    event_id: Identifier | None = None
    """Names the event: sent again with the same user, item and type, it counts once
    (`serving.event_log.repeats`). One for each order line."""
    user_id: Identifier
    item_id: Identifier
    event_type: EventType | ReturnType
    """`return` and `cancel` take back an order: their `quantity`, or all of the user's latest order of the
    item."""
    timestamp: UtcMoment | None = None
    """Now by default; from 1990 on, and at most ten minutes ahead."""
    price: float | None = Field(default=None, ge=-MAX_PRICE, le=MAX_PRICE, allow_inf_nan=False)
    """Of one unit, in the shop's currency. An order without one counts at the catalogue's price."""
    quantity: int | None = Field(default=None, ge=-MAX_UNITS, le=MAX_UNITS)
    """Units; one by default. An order of less than 0 is a return."""
    request_id: Identifier | None = None
    """The ranking that showed the item."""
    position: int | None = Field(default=None, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _require_signs_of_a_return(self) -> Self:
        if self.quantity == 0:
            raise ValueError("quantity 0: nothing was ordered or sent back; leave the event out")
        below_zero = [
            f"{name} {number:g}"
            for name, number in (("quantity", self.quantity or 0), ("price", self.price or 0))
            if number < 0
        ]
        if below_zero and self.meant_type not in RETURN_TYPES:
            raise ValueError(
                f"{' and '.join(below_zero)}: only what takes back an order may be below 0 (event_type "
                "return or cancel, or an order with a negative quantity)"
            )
        return self

    @property
    def meant_type(self) -> EventType | ReturnType:
        """`event_type`, but `return` for an order of less than 0 units, as many shops write returns."""
        is_negative_order = self.event_type == "order" and (self.quantity or 0) < 0
        return RETURN if is_negative_order else self.event_type


class EventsRequest(MessageBody):
    """Reports events."""

    # More are answered 413 by the gateway, not 422: the schema only says so.
    events: list[PostedEvent] = Field(min_length=1, json_schema_extra={"maxItems": MAX_EVENTS})


class EventsResponse(MessageBody):
    """They are on the disk."""

    accepted: int


class StatusResponse(BaseModel):
    """Who is in service."""

    ready: bool
    """Whether rankings are answered."""
    waiting_for: str | None = None
    """What is missing until then."""
    routes: Routes | None = None
    """The routes that this gateway goes by."""
    models: list[str] = []
    """Rankers that it holds ready."""
