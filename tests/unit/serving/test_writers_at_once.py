"""Two processes write the same state at once, as two pods on a shared claim: no update is lost."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from contracts.artifacts import create_text
from contracts.errors import UserError
from serving.config import ServingConfig
from serving.deployment.deploy_rankers import retire_unused_models
from serving.deployment.deployment_records import (
    DeployedArtifacts,
    DeploymentRecord,
    record_deployment,
    record_refresh,
)
from serving.deployment.routes import Arm, ExperimentPlan, find_routes_file, read_routes, write_routes

NUM_UPDATES = 40
REFRESH = """
import sys
from pathlib import Path
from serving.deployment.deployment_records import record_refresh

state, field, num_updates = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, num_updates + 1):
    record_refresh("000001", {field: f"s3://{field}/{number}"}, state=state)
"""
ROUTE = """
import sys
from pathlib import Path
from serving.deployment.routes import Arm, ExperimentPlan, write_routes

state, name, num_updates = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(num_updates):
    arms = {"all": Arm(model=f"{name}_{number}", share=1.0)}
    write_routes(state, ExperimentPlan(experiment="e", salt="1", arms=arms), note=name)
"""


def run_at_once(script: str, state: Path, names: tuple[str, ...]) -> None:
    """Starts a process for each name; all begin their writes when all are ready."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(state), name, str(NUM_UPDATES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=300)
        assert process.returncode == 0


def test_refreshes_that_end_together_keep_each_others_updates(tmp_path: Path) -> None:
    fields = ("dataset", "knowledge")
    artifacts = DeployedArtifacts(**dict.fromkeys(DeployedArtifacts.model_fields, "s3://first"))
    record_deployment([], artifacts, state=tmp_path)
    run_at_once(REFRESH, tmp_path, fields)
    paths = sorted((tmp_path / "deployments").glob("*.json"))
    assert len(paths) == 1 + len(fields) * NUM_UPDATES, "each update is a generation of its own"
    records = [DeploymentRecord.model_validate_json(path.read_text()) for path in paths]
    for field in fields:
        seen = [int(r.refreshed[field].rpartition("/")[2]) for r in records if field in r.refreshed]
        assert seen == sorted(seen), f"{field} never went back"
        assert seen[-1] == NUM_UPDATES
    assert not list((tmp_path / "deployments").glob(".*")), "no temporary file stays"


def test_routes_written_together_have_a_revision_each(tmp_path: Path) -> None:
    run_at_once(ROUTE, tmp_path, ("one", "two"))
    history = sorted((tmp_path / "routes").glob("*.json"))
    assert [int(path.stem) for path in history] == list(range(1, 2 * NUM_UPDATES + 1))
    assert (tmp_path / "routes.json").read_text() == history[-1].read_text(), "the highest one holds"


def test_a_change_made_from_older_routes_is_refused(tmp_path: Path) -> None:
    plan = ExperimentPlan(experiment="e", salt="1", arms={"all": Arm(model="a", share=1.0)})
    first = write_routes(tmp_path, plan, note="deploy", after=0)
    write_routes(tmp_path, plan, note="promote", after=first.revision)
    with pytest.raises(UserError, match=r"changed meanwhile.*revision 2 \(promote\)"):
        write_routes(tmp_path, plan, note="canary", after=first.revision)
    assert read_routes(tmp_path).note == "promote"


def test_the_change_of_a_writer_that_died_is_finished(tmp_path: Path) -> None:
    plan = ExperimentPlan(experiment="e", salt="1", arms={"all": Arm(model="a", share=1.0)})
    first = write_routes(tmp_path, plan, note="deploy")
    routes_text = (tmp_path / "routes.json").read_text()
    write_routes(tmp_path, plan, note="half")
    (tmp_path / "routes.json").write_text(routes_text)
    with pytest.raises(UserError, match=r"revision 2 \(half\)"):
        write_routes(tmp_path, plan, note="next", after=first.revision)
    assert write_routes(tmp_path, plan, note="next", after=2).revision == 3


def test_a_refresh_that_made_nothing_new_writes_nothing(tmp_path: Path) -> None:
    artifacts = DeployedArtifacts(**dict.fromkeys(DeployedArtifacts.model_fields, "s3://first"))
    record_deployment([], artifacts, state=tmp_path)
    for _ in range(3):
        record_refresh("000001", {"dataset": "s3://new", "knowledge": ""}, state=tmp_path)
    assert len(list((tmp_path / "deployments").glob("*.json"))) == 2


def test_exactly_one_of_many_creates_a_file(tmp_path: Path) -> None:
    path, results = tmp_path / "file", []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        start.wait()
        results.append((create_text(path, str(number)), number))

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (number for is_written, number in results if is_written)
    assert path.read_text() == str(winner)
    assert list(tmp_path.iterdir()) == [path]


class LoadedModels:
    """What of Triton the retirement of models needs."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)

    def list_loaded_models(self) -> set[str]:
        return set(self.names)

    def unload_model(self, name: str) -> None:
        self.names.remove(name)


def publish_at(repository: Path, name: str, second: int) -> None:
    (repository / name).mkdir(parents=True)
    os.utime(repository / name, (second, second))


def test_a_model_that_another_run_is_about_to_route_is_not_deleted(tmp_path: Path) -> None:
    config = ServingConfig().in_folders(tmp_path)
    repository, names = config.model_repository, [f"ranker_0000000{number}" for number in range(4)]
    publish_at(repository, names[0], 100)
    for second, name in ((300, names[1]), (500, names[2])):
        arms = {"all": Arm(model=name, share=1.0)}
        routes = write_routes(tmp_path, ExperimentPlan(experiment="e", salt="1", arms=arms), note="deploy")
        os.utime(find_routes_file(tmp_path, routes.revision), (second, second))
        publish_at(repository, name, second - 50)
    publish_at(repository, names[3], 501)
    triton = LoadedModels(*names)
    retire_unused_models(triton, config)  # type: ignore[arg-type]
    assert {path.name for path in repository.iterdir()} == triton.names == set(names[1:])

    # Its run gave up; the next routes let it go, with what is neither routed nor the previous.
    os.utime(find_routes_file(tmp_path, 2), (600, 600))
    retire_unused_models(triton, config)  # type: ignore[arg-type]
    assert {path.name for path in repository.iterdir()} == triton.names == set(names[1:3])
