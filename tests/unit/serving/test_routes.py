import pytest
from pydantic import ValidationError

from contracts.errors import UserError
from serving.routes import Arm, previous_routes, read_routes, write_routes


def _write(state, model, note="test"):
    return write_routes(state, {"all": Arm(model=model, share=1.0)}, experiment="e", salt="1", note=note)


def test_what_is_written_is_read(tmp_path):
    written = _write(tmp_path, "ranker_a")
    assert read_routes(tmp_path) == written
    assert written.revision == 1


def test_the_previous_routes_are_the_last_different_ones(tmp_path):
    for model in ("ranker_a", "ranker_b", "ranker_b"):
        _write(tmp_path, model)
    assert read_routes(tmp_path).revision == 3
    assert previous_routes(tmp_path).models == {"ranker_a"}


def test_going_back_twice_returns(tmp_path):
    for model in ("ranker_a", "ranker_b"):
        _write(tmp_path, model)
    for expected in ("ranker_a", "ranker_b"):
        back = previous_routes(tmp_path)
        write_routes(tmp_path, back.arms, experiment="e", salt="1", note="rollback")
        assert read_routes(tmp_path).models == {expected}


def test_nothing_deployed_and_nothing_earlier_are_said(tmp_path):
    with pytest.raises(UserError, match="run the deploy step"):
        read_routes(tmp_path)
    _write(tmp_path, "ranker_a")
    with pytest.raises(UserError, match="nothing to roll back to"):
        previous_routes(tmp_path)


def test_shares_must_sum_to_one(tmp_path):
    arms = {"a": Arm(model="m", share=0.5), "b": Arm(model="m", share=0.4)}
    with pytest.raises(ValidationError, match=r"sum to 0\.9"):
        write_routes(tmp_path, arms, experiment="e", salt="1", note="")
    with pytest.raises(UserError):
        read_routes(tmp_path)
