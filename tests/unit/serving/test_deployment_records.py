"""Deployment records say which artifacts stand behind the rankers in service, whatever was routed since."""

import shutil
from pathlib import Path

import pytest

from contracts.errors import UserError
from models.ranker.inputs.ranker_spec import SPEC_FILE, RankerSpec, name_model
from serving.deployment.deployment_records import (
    DeployedArtifacts,
    DeploymentRecord,
    find_deployment,
    record_deployment,
    record_refresh,
    require_in_service,
)
from serving.deployment.routes import Arm, ExperimentPlan, write_routes


def name_artifacts(tag: str) -> DeployedArtifacts:
    return DeployedArtifacts(**{name: f"s3://{tag}/{name}" for name in DeployedArtifacts.model_fields})


class Deployments:
    def __init__(self, state: Path, spec: RankerSpec) -> None:
        self.state, self._spec = state / "serving", spec

    def make_ranker(self, version: str, space: str = "sample-space") -> Path:
        folder = self.state / "made" / version
        folder.mkdir(parents=True, exist_ok=True)
        changes = {"model_name": name_model(version), "version": version, "space": space}
        (folder / SPEC_FILE).write_text(self._spec.model_copy(update=changes).model_dump_json())
        return folder

    def record(self, tag: str, *versions: str, space: str = "sample-space") -> DeploymentRecord:
        rankers = [self.make_ranker(version, space) for version in versions]
        return record_deployment(rankers, name_artifacts(tag), state=self.state)

    def route(self, *versions: str) -> None:
        arms = {f"arm{n}": Arm(model=name_model(v), share=1 / len(versions)) for n, v in enumerate(versions)}
        write_routes(self.state, ExperimentPlan(experiment="ranker", salt="1", arms=arms), note="test")

    @property
    def in_service(self) -> str:
        return find_deployment(self.state).deployment


@pytest.fixture
def deployments(tmp_path: Path, spec: RankerSpec) -> Deployments:
    return Deployments(tmp_path, spec)


def test_the_routes_decide_also_after_a_rollback(deployments: Deployments) -> None:
    deployments.record("one", "baseline", "first")
    deployments.record("two", "baseline", "second")
    deployments.route("baseline", "second")
    assert deployments.in_service == "000002"
    deployments.route("baseline", "first")
    assert deployments.in_service == "000001", "the baseline is the same, the challenger is not"


def test_with_a_champion_of_old_the_newest_deployment_counts(deployments: Deployments) -> None:
    deployments.record("one", "champion")
    deployments.record("two", "challenger")
    deployments.route("champion", "challenger")
    assert deployments.in_service == "000002"


def test_a_repeated_deployment_has_one_record(deployments: Deployments) -> None:
    assert deployments.record("one", "a") == deployments.record("one", "a")
    assert deployments.record("two", "a").deployment == "000002"


def test_a_canary_by_hand_goes_with_the_newest_deployment_of_its_space(deployments: Deployments) -> None:
    deployments.record("one", "a")
    deployments.record("other", "b", space="other-space")
    deployments.route("by-hand")
    with pytest.raises(UserError, match=r"no deployment record.*train_and_deploy"):
        find_deployment(deployments.state)
    rankers = deployments.state / "rankers"
    shutil.copytree(deployments.make_ranker("by-hand"), rankers / name_model("by-hand"))
    assert deployments.in_service == "000001"


def test_a_refresh_changes_what_is_current_and_keeps_what_was_deployed(deployments: Deployments) -> None:
    deployments.record("one", "a")
    deployments.route("a")
    record_refresh("000001", {"dataset": "s3://new", "knowledge": ""}, state=deployments.state)
    record = find_deployment(deployments.state)
    assert record.current_artifacts == record.artifacts.model_copy(update={"dataset": "s3://new"})
    assert record.artifacts == name_artifacts("one")
    with pytest.raises(UserError, match="no deployment record '000009'"):
        record_refresh("000009", {}, state=deployments.state)


def test_work_for_a_replaced_deployment_is_refused(deployments: Deployments) -> None:
    deployments.record("one", "a")
    deployments.route("a")
    require_in_service("000001", state=deployments.state)
    deployments.record("two", "b")
    deployments.route("b")
    with pytest.raises(UserError, match=r"000001.*no longer in service"):
        require_in_service("000001", state=deployments.state)


def test_nothing_deployed_is_said(deployments: Deployments) -> None:
    with pytest.raises(UserError, match="no ranker is deployed"):
        find_deployment(deployments.state)
