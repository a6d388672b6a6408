import pytest
from pydantic import ValidationError

from serving.messages import EventsRequest, RankRequest


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"candidates": ["a"]}, "user_id"),
        ({"user_id": "", "candidates": ["a"]}, "user_id"),
        ({"user_id": "u", "candidates": []}, "candidates"),
        ({"user_id": "u", "candidates": "abc"}, "candidates"),
        ({"user_id": "u", "candidates": [1]}, "candidates"),
        ({"user_id": "u", "candidates": ["a", "b", "a"]}, "repeated: a"),
        ({"user_id": "u", "candidates": ["a" * 300]}, "candidates"),
        ({"user_id": "u", "candidates": ["a"], "limit": 0}, "limit"),
        ({"user_id": "u", "candidates": ["a"], "contxt": {}}, "contxt"),
        ({"user_id": "u", "candidates": ["a"], "context": {"timestamp": "2026-01-01T00:00:00"}}, "timezone"),
        (
            {"user_id": "u", "candidates": ["a"], "context": {"timestamp": "0001-01-01T00:00:00+01:00"}},
            "before the year 1",
        ),
        ({"user_id": "u", "candidates": ["a"], "context": {"timestamp": "9999-12-31T23:59:59-01:00"}}, "after 9999"),
    ],
)
def test_a_bad_request_names_its_fault(body, part):
    with pytest.raises(ValidationError, match=part):
        RankRequest.model_validate(body)


@pytest.mark.parametrize("change", [{"event_type": "view"}, {"price": -1}, {"price": float("nan")}, {"quantity": 0}])
def test_a_bad_event_is_refused(change):
    event = {"user_id": "u", "item_id": "a", "event_type": "click"} | change
    with pytest.raises(ValidationError):
        EventsRequest.model_validate({"events": [event]})
