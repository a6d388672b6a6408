"""An operator's words change the routes as the verbs of the command line do."""

from pathlib import Path

import pytest

from contracts.errors import UserError
from reaseq.cli import build_parser
from serving.config import ServingConfig
from serving.deployment.routes import read_routes
from serving.experiments.change_routes import ACTIONS, change_routes


def test_promote_retire_and_show(state: Path) -> None:
    model = read_routes(state).arms["treatment"].model
    assert change_routes("show", arm="", config=ServingConfig(), state=state).revision == 1
    retired = change_routes("retire", arm="treatment", config=ServingConfig(), state=state)
    assert set(retired.arms) == {"control"}
    promoted = change_routes("promote", arm="control", config=ServingConfig(), state=state)
    assert (promoted.champion, read_routes(state).revision) == (model, 3)


@pytest.mark.parametrize(("action", "message"), [("undo", "none of canary"), ("promote", "no arm 'x'")])
def test_what_cannot_be_done_is_said(state: Path, action: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        change_routes(action, arm="x", config=ServingConfig(), state=state)


def test_the_command_line_offers_every_action() -> None:
    for action in ACTIONS:
        words = ["submit", "--host", "http://x", "--pipeline", "change_routes", "--action", action]
        assert build_parser().parse_args(words).action == action
