"""Two rankers share a page: fairly, the same for a retry, and every item says whose pick it was."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ranking import Model, _rank, build_service

from contracts.artifacts import write_text
from contracts.errors import UserError
from models.ranker.inputs.ranker_spec import SPEC_FILE
from serving.config import ServingConfig
from serving.deployment.routes import Arm, read_routes, write_routes
from serving.event_log.event_log import EventLog
from serving.event_log.log_tables import read_exposures, read_teams
from serving.experiments.run_experiment import start_experiment, stop_experiment
from serving.gateway.team_draft import draft_page, merge_outputs

SCORES = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12)


@given(control=SCORES, seed=st.integers(0, 100), limit=st.integers(1, 12))
def test_a_draft_is_a_fair_page(control: list[float], seed: int, limit: int) -> None:
    ours = np.array(control, np.float32)
    theirs = np.random.default_rng(seed).permutation(ours)
    page = draft_page(ours, theirs, request_id=f"r{seed}", limit=limit)
    assert len(set(page.order.rows.tolist())) == len(page.order.rows) == min(limit, len(ours))
    picks = Counter(page.teams)
    assert abs(picks["control"] - picks["challenger"]) <= 1
    for first, second in zip(page.teams[::2], page.teams[1::2], strict=False):
        assert first != second
    assert ((page.order.propensities > 0) & (page.order.propensities <= 1)).all()
    again = draft_page(ours, theirs, request_id=f"r{seed}", limit=limit)
    assert again.order.rows.tolist() == page.order.rows.tolist()


def test_each_team_picks_its_best_and_propensities_are_frequencies() -> None:
    control, challenger = np.array([3, 2, 1, 0], np.float32), np.array([3, 0, 1, 2], np.float32)
    pages = [draft_page(control, challenger, request_id=str(number), limit=None) for number in range(4000)]
    seen = Counter(tuple(page.order.rows.tolist()) for page in pages)
    for prefix_length in range(4):
        for page in pages[:20]:
            rows = tuple(page.order.rows.tolist())
            same_start = sum(
                count for order, count in seen.items() if order[:prefix_length] == rows[:prefix_length]
            )
            same_next = sum(
                count
                for order, count in seen.items()
                if order[: prefix_length + 1] == rows[: prefix_length + 1]
            )
            assert same_next / same_start == pytest.approx(page.order.propensities[prefix_length], abs=0.04)


def test_the_outputs_are_those_of_the_ranker_that_picked() -> None:
    ours = {"score": np.array([3.0, 2.0, 1.0], np.float32), "click": np.array([0.3, 0.2, 0.1], np.float32)}
    theirs = {"score": np.array([1.0, 2.0, 3.0], np.float32)}
    page = draft_page(ours["score"], theirs["score"], request_id="r", limit=None)
    merged = merge_outputs(ours, theirs, page)
    assert set(merged) == {"score"}
    for row, team in zip(page.order.rows.tolist(), page.teams, strict=True):
        assert merged["score"][row] == (theirs if team == "challenger" else ours)["score"][row]


class TwoModels(Model):
    """The challenger scores the other way round; either can fail."""

    def __init__(self, *, failing: str = "") -> None:
        super().__init__()
        self.failing = failing

    async def score(self, model, feed, outputs, *, timeout_s):
        self.fails = model == self.failing
        scores = await super().score(model, feed, outputs, timeout_s=timeout_s)
        return {name: -values for name, values in scores.items()} if model == "ranker_other" else scores


@pytest.fixture
def log(tmp_path):
    with EventLog(tmp_path / "events") as event_log:
        yield event_log


@pytest.fixture
def interleaved(state, spec):
    """A state whose pages are shared by the deployed ranker and `ranker_other`."""
    folder = state / "rankers" / "ranker_other"
    folder.mkdir()
    for path in (state / "rankers" / spec.model_name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    files = (folder / SPEC_FILE).read_text().replace(spec.model_name, "ranker_other")
    write_text(folder / SPEC_FILE, files.replace(spec.version, "f" * 16))
    plan = read_routes(state).as_plan
    arms = {
        "control": Arm(model=spec.model_name, share=0.5),
        "treatment": Arm(model="ranker_other", share=0.5),
    }
    write_routes(state, plan.model_copy(update={"arms": arms}), note="deploy")
    return state


def start(state, **choices):
    return start_experiment(
        {},
        ServingConfig(),
        state=state,
        shares=choices.pop("shares", {"interleaved": 0.99999}),
        planned_days=7,
        deciding_metric="ctr",
        started_by="ana",
        interleaving=True,
        **choices,
    )


def test_shared_pages_are_served_and_say_whose_pick_each_item_is(interleaved, log, tmp_path):
    record = start(interleaved)
    service = build_service(interleaved, log, model=TwoModels())
    answers = [_rank(service, request_id=f"r{number}") for number in range(20)]
    teams = read_teams(tmp_path / "events", experiment_id=record.experiment_id)
    shared = [answer for answer in answers if answer.arm == "interleaved"]
    assert shared
    assert teams["request_id"].unique().sort().to_list() == sorted(answer.request_id for answer in shared)
    # The control likes `a` most, the challenger `b`.
    firsts = {
        (answer.items[0]["item_id"], teams.filter(request_id=answer.request_id)["team"][0])
        for answer in shared
    }
    assert firsts == {("a", "control"), ("b", "challenger")}
    assert {item["propensity"] for answer in shared for item in answer.items[:1]} == {0.5}
    assert len(read_exposures(tmp_path / "events", experiment_id=record.experiment_id)) == 60


@pytest.mark.parametrize("failing", ["ranker_other", "own"])
def test_a_ranker_that_is_away_leaves_the_page_to_the_other_and_no_team_counts(
    interleaved,
    spec,
    log,
    tmp_path,
    failing,
):
    start(interleaved)
    model = TwoModels(failing=spec.model_name if failing == "own" else failing)
    answer = _rank(build_service(interleaved, log, model=model))
    assert [item["item_id"] for item in answer.items] == (
        ["b", "c", "a"] if failing == "own" else ["a", "c", "b"]
    )
    assert ("model" in answer.degraded) == (failing == "own")
    assert read_teams(tmp_path / "events").is_empty()


def test_an_interleaving_has_one_challenger(interleaved, spec):
    plan = read_routes(interleaved).as_plan
    same = {name: Arm(model=spec.model_name, share=0.5) for name in ("control", "treatment")}
    write_routes(interleaved, plan.model_copy(update={"arms": same}), note="test")
    with pytest.raises(UserError, match=r"control's ranker|one challenger"):
        start(interleaved)


def test_the_end_of_an_interleaving_keeps_a_ranker_and_no_shared_page(interleaved, spec):
    record = start(interleaved, shares={"interleaved": 0.2})
    routes = read_routes(interleaved)
    assert routes.arm_shares == {"control": pytest.approx(0.8), "interleaved": 0.2}
    assert routes.model_names == {spec.model_name, "ranker_other"}
    with pytest.raises(UserError, match="the arms are control, treatment"):
        stop_experiment(state=interleaved, keep="interleaved", stopped_by="bo")
    stop_experiment(state=interleaved, keep="treatment", stopped_by="bo")
    routes = read_routes(interleaved)
    assert (routes.model_names, routes.champion) == ({"ranker_other"}, "ranker_other")
    assert record.interleaving
