from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import to_json

from contracts.events.order_returns import RETURN_TYPES
from contracts.tables import CONTEXT_COLUMNS, EVENT_TYPES, EVENTS, MAX_CONTEXT_LENGTH, MAX_ID_LENGTH, SCENES
from serving.event_log.log_lines import parse_lines
from serving.event_log.log_records import build_event_record
from serving.gateway.messages import MAX_CLOCK_SKEW, EventsRequest, PostedEvent, RankContext, RankRequest

EVENT = {"user_id": "u", "item_id": "a", "event_type": "click"}


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"candidates": ["a"]}, "user_id"),
        ({"user_id": "", "candidates": ["a"]}, "user_id"),
        ({"user_id": "u", "candidates": []}, "candidates"),
        ({"user_id": "u", "candidates": "abc"}, "candidates"),
        ({"user_id": "u", "candidates": [1]}, "candidates"),
        ({"user_id": "u", "candidates": ["a", "b", "a"]}, "repeated: a"),
        ({"user_id": "u", "candidates": ["b", "a" * 1025]}, r"candidates\.1\n.*at most 1024"),
        ({"user_id": "u", "candidates": ["b", " \t"]}, r"candidates\.1\n.*pattern"),
        ({"user_id": "u", "candidates": ["a", "\ud800"]}, r"candidates\.1\n.*unicode"),
        ({"user_id": "u", "candidates": ["a"], "context": {"query": "a\ud800"}}, "query\n.*unicode"),
        ({"user_id": "u", "candidates": ["a"], "limit": 0}, "limit"),
        ({"user_id": "u", "candidates": ["a"], "contxt": {}}, "contxt"),
        ({"user_id": "u", "candidates": ["a"], "context": {"timestamp": "2026-01-01T00:00:00"}}, "timezone"),
        (
            {"user_id": "u", "candidates": ["a"], "context": {"timestamp": "0001-01-01T00:00:00+01:00"}},
            "before the year 1",
        ),
        (
            {"user_id": "u", "candidates": ["a"], "context": {"timestamp": "9999-12-31T23:59:59-01:00"}},
            "after 9999",
        ),
        ({"user_id": "u", "candidates": ["a"], "context": {"scene": "checkout"}}, "scene"),
        (
            {"user_id": "u", "candidates": ["a"], "context": {"timestamp": "1989-12-31T23:00:00Z"}},
            "1989-12-31",
        ),
        ({"user_id": "u", "candidates": ["a"], "context": {"timestamp": "2999-12-31T23:00:00Z"}}, "ahead"),
        ({"user_id": "u", "candidates": ["a"], "context": {"seed_item_id": ""}}, "seed_item_id"),
    ],
)
def test_a_bad_request_names_its_fault(body, part):
    with pytest.raises(ValidationError, match=part):
        RankRequest.model_validate(body)


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_of_the_contract_is_taken(scene):
    context = RankContext(scene=scene, query=" tent ", page_category="Outdoor > Camping", device="phone")
    assert context.query == "tent"
    assert set(CONTEXT_COLUMNS) == RankContext.model_fields.keys() - {"timestamp"}


def test_ids_may_be_urls_and_composite_keys():
    url = "https://shop.example/" + "p/" * 140
    request = RankRequest(user_id=url, candidates=[url, "a" * MAX_ID_LENGTH])
    assert request.candidates[0] == url


def test_longer_texts_of_a_page_are_cut_as_in_training_and_blank_ones_say_nothing():
    context = RankContext(query="q" * 600, page_category="  ", device="d" * 65)
    assert len(context.query) == MAX_CONTEXT_LENGTH
    assert (context.page_category, context.device) == (None, "d" * 65)


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=0, max_size=4) | st.integers(1020, 1030).map("x".__mul__))
def test_the_gateway_takes_exactly_the_ids_that_the_tables_take(text):
    row = EVENT | {"item_id": text, "timestamp": datetime(2026, 1, 1, tzinfo=UTC)}
    is_sound = not EVENTS.validate_rows(pl.DataFrame([row])).valid.is_empty()
    try:
        PostedEvent(**EVENT | {"item_id": text})
    except ValidationError:
        assert not is_sound
    else:
        assert is_sound


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"event_type": "view"}, "impression"),
        ({"price": -1}, "price -1: only what takes back"),
        ({"price": float("nan")}, "finite"),
        ({"price": 1e13}, "1000000000000"),
        ({"quantity": 0}, "quantity 0"),
        ({"quantity": -1}, "quantity -1: only what takes back"),
        ({"quantity": 2**31}, "2147483647"),
        ({"event_id": ""}, "event_id"),
        ({"user_id": " "}, "pattern"),
        ({"timestamp": 4}, "1970-01-01"),
        ({"timestamp": "2099-01-01T00:00:00Z"}, "2099-01-01"),
    ],
)
def test_a_bad_event_is_refused_with_its_value(change, part):
    with pytest.raises(ValidationError, match=part):
        EventsRequest.model_validate({"events": [EVENT | change]})


def test_a_clock_may_be_a_little_ahead():
    now = datetime.now(UTC)
    assert PostedEvent(**EVENT, timestamp=now + MAX_CLOCK_SKEW / 2).timestamp > now
    with pytest.raises(ValidationError, match="ahead"):
        PostedEvent(**EVENT, timestamp=now + MAX_CLOCK_SKEW + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("posted", "meant"),
    [
        ({"event_type": "order", "quantity": -1, "price": -20}, ("return", 1, 20.0)),
        ({"event_type": "order", "quantity": -2, "price": 20}, ("return", 2, 20.0)),
        ({"event_type": "return", "quantity": -1}, ("return", 1, None)),
        ({"event_type": "return", "quantity": 2, "price": -20}, ("return", 2, 20.0)),
        ({"event_type": "cancel"}, ("cancel", None, None)),
        ({"event_type": "order", "quantity": 2}, ("order", 2, None)),
    ],
)
def test_what_takes_back_an_order_is_a_return_however_it_is_written(posted, meant):
    record = build_event_record(PostedEvent(**EVENT | posted), datetime.now(UTC))
    assert (record["event_type"], record["quantity"], record["price"]) == meant


def test_every_event_type_of_the_contract_can_be_posted():
    for event_type in (*EVENT_TYPES, *RETURN_TYPES):
        assert PostedEvent(**EVENT | {"event_type": event_type}).meant_type == event_type


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["-1", "1e400", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00+14:00", "\ud800", "null"]),
)
_POSTS = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["u", 7]) | st.text(max_size=3),
        "item_id": st.just("a") | st.text(max_size=3),
        "event_type": st.sampled_from([*EVENT_TYPES, *RETURN_TYPES, "view", ""]),
    },
    optional={
        "event_id": st.text(max_size=3) | _SCALARS,
        "price": st.floats(-10, 1e13) | _SCALARS,
        "quantity": st.integers(-3, 3) | st.integers(2**31 - 2, 2**31) | _SCALARS,
        "timestamp": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat) | _SCALARS,
        "request_id": st.text(max_size=3) | _SCALARS,
        "position": st.integers(-1, 3) | _SCALARS,
    },
)


@settings(max_examples=300, deadline=None)
@given(_POSTS)
def test_what_the_gateway_takes_the_tables_take_and_all_else_is_refused(body):
    try:
        event = PostedEvent.model_validate(body)
    except ValidationError:
        return
    line = to_json(build_event_record(event, datetime.now(UTC))) + b"\n"
    records, num_broken = parse_lines("events", line)
    assert num_broken == 0
    # The types of returns are the log's own: orders are told of them.
    event_type = pl.col("event_type").replace(dict.fromkeys(RETURN_TYPES, "order"))
    validated = EVENTS.validate_rows(records.with_columns(event_type))
    assert validated.rejected.is_empty()
    assert validated.valid["item_id"].item() == body["item_id"]
