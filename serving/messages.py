"""What the gateway takes and gives: the request and answer bodies, as in its OpenAPI description."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, with_config
from typing_extensions import TypedDict  # pydantic takes the standard one from Python 3.12 on

from serving.assignment import How


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a character (a lone surrogate), which no file can") from None
    return text


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it lies before the year 1 or after 9999") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_encodable)]


def _no_repetition(item_ids: list[str]) -> list[str]:
    if len(set(item_ids)) != len(item_ids):
        repeated = [item_id for item_id, count in Counter(item_ids).items() if count > 1]
        raise ValueError(f"each candidate may stand once; repeated: {', '.join(repeated[:5])}")
    return item_ids


class Message(BaseModel):
    """A body: unknown fields are errors, so that a misspelt option does not pass in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)


class RankContext(Message):
    """What surrounds a request."""

    timestamp: Moment | None = None
    """As of when to rank; now by default. For replays."""


class RankRequest(Message):
    """Asks for an order of candidates for a user."""

    user_id: Id
    candidates: Annotated[list[Id], Field(min_length=1), AfterValidator(_no_repetition)]
    limit: int | None = Field(default=None, ge=1)
    """Answer only with the best so many; only they count as shown."""
    request_id: Id | None = None
    """Names the request in the logs; made up when not given."""
    context: RankContext = RankContext()


@with_config(ConfigDict(use_attribute_docstrings=True))
class RankedItem(TypedDict):
    """One item of the answer; a dictionary, since an answer has hundreds of them."""

    item_id: str
    score: float
    """What the list is sorted by, descending."""
    click: float | None
    """Probability of a click; none where no model scored."""
    order: float | None
    """Probability of an order; none where no model scored."""
    value: float | None
    """Expected revenue of showing it; none where the model has no value head."""
    degraded: list[str]
    """What was missing for this item: `unknown_item`, `no_vector`."""


class RankResponse(Message):
    """The ranked list."""

    request_id: str
    """The caller's, or made up; the logs name it."""
    arm: str
    """Arm of the ranker experiment that answered."""
    layers: dict[str, str]
    """Other experiments -> the user's arm."""
    assignment: How
    """`drawn` by the user's hash, `holdout`, or `forced` by the caller; only what was drawn is compared."""
    model_version: str
    """Version of the ranker, or `fallback`."""
    degraded: list[str]
    """What the whole answer had to do without: `no_history`, `no_inferred`, `feature_store`, `model`, `event_log`,
    `event_sink`."""
    items: list[RankedItem]
    """Best first."""


class PostedEvent(Message):
    """Something a user did, or was shown."""

    user_id: Id
    item_id: Id
    event_type: Literal["impression", "click", "cart", "order"]
    timestamp: Moment | None = None
    """Now by default."""
    price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    quantity: int | None = Field(default=None, ge=1, le=2**31 - 1)
    request_id: Id | None = None
    """The ranking that showed the item."""
    position: int | None = Field(default=None, ge=0, le=2**31 - 1)


class EventsRequest(Message):
    """Reports events."""

    events: list[PostedEvent] = Field(min_length=1)


class EventsResponse(Message):
    """They are on the disk."""

    accepted: int
