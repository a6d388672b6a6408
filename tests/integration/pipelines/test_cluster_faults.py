"""A cluster that fails at random, before and after its writes: no double run, no lost schedule, no wait given
up."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kfp_server import Cluster, Fault, serve_cluster

from contracts.errors import UserError
from pipelines.cluster import cluster_client, credentials
from pipelines.cluster.apply_schedules import apply_schedules
from pipelines.cluster.patience import Patience
from pipelines.cluster.recurring_run import schedule_pipeline
from pipelines.cluster.schedule_file import read_schedule_file
from pipelines.cluster.submit_run import submit_pipeline
from pipelines.compiled_package import COMPILED_FOLDER

pytestmark = pytest.mark.integration

KINDS = ("500", "502", "503", "429", "reset", "silence")
NUM_FAULTS = 200
CONFIG = Path(__file__).parents[3] / "configs/cluster-local.yaml"
# Time stands still, so nothing is ever given up for its length.
PATIENT = Patience(sleep=lambda _: None, clock=lambda: 0.0)


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(credentials.TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(credentials.TOKEN_FILE_VARIABLE, raising=False)
    # Long enough for a busy machine: a server that is only slow must not look like a silent one.
    monkeypatch.setattr(cluster_client, "_CALL_TIMEOUT_S", 1.0)
    monkeypatch.setattr(cluster_client, "_PROBE_TIMEOUT_S", 1.0)


class Faults:
    """Draws faults for a third of the requests, silence seldom: it costs the client its time limit."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.count = 0

    def draw(self) -> Fault | None:
        if self._random.random() > 0.35:
            return None
        self.count += 1
        kind = self._random.choices(KINDS, weights=(4, 2, 4, 4, 4, 1))[0]
        return Fault(kind, is_after=self._random.random() < 0.5)


def submit(package: Path, host: str, name: str, *, top: int) -> str:
    return submit_pipeline(
        package,
        {"config": "{}", "top": top},
        host=host,
        experiment="shop",
        run_name=name,
        pipeline_name="tiny",
        wait=True,
        patience=PATIENT,
        waiting=PATIENT,
    ).state


def schedule(package: Path, host: str, cron: str) -> None:
    schedule_pipeline(
        package,
        {"config": "{}", "top": 1},
        host=host,
        experiment="shop",
        schedule_name="nightly",
        cron=cron,
        pipeline_name="tiny",
        patience=PATIENT,
    )


def test_two_hundred_faults_do_no_harm(package: Path, record_property: Callable[[str, int], None]) -> None:
    """`make bench-kubeflow` publishes the harm that it records."""
    num_faults, seed, harm = 0, 0, Counter[str](double_runs=0, lost_schedules=0, waits_given_up=0)
    while num_faults < NUM_FAULTS:
        faults = Faults(seed)
        cluster = Cluster(draw_fault=faults.draw)
        with serve_cluster(cluster) as host:
            for top, name in enumerate(("one", "two"), start=1):
                try:
                    is_awaited = submit(package, host, name, top=top) == "SUCCEEDED"
                except UserError:
                    is_awaited = False
                harm["waits_given_up"] += not is_awaited
            for cron in ("0 0 3 * * *", "0 0 3 * * *", "0 0 4 * * *"):
                schedule(package, host, cron)
                stored = cluster.recurring_runs.values()
                held = [(s["trigger"]["cron_schedule"]["cron"], s["mode"]) for s in stored]
                harm["lost_schedules"] += held != [(cron, "ENABLE")]
        tops = [run["runtime_config"]["parameters"]["top"] for run in cluster.runs.values()]
        harm["double_runs"] += len(tops) - len(set(tops))
        assert set(tops) == {1, 2}, f"seed {seed}: a run is lost"
        assert (len(cluster.pipelines), len(cluster.experiments)) == (1, 1)
        num_faults, seed = num_faults + faults.count, seed + 1
    for name, count in harm.items():
        record_property(name, count)
    assert not harm.total(), harm


def test_schedules_of_a_file_survive_two_hundred_faults(tmp_path: Path) -> None:
    num_faults, seed = 0, 0
    while num_faults < NUM_FAULTS:
        faults, draw = Faults(seed), random.Random(seed)
        cluster = Cluster(draw_fault=faults.draw)
        with serve_cluster(cluster) as host:
            for _ in range(4):
                wanted = write_random_schedules(tmp_path / "schedules.yaml", draw)
                schedules = read_schedule_file(tmp_path / "schedules.yaml", packages_folder=COMPILED_FOLDER)
                apply_schedules(schedules, host=host, patience=PATIENT)
                stored = cluster.recurring_runs.values()
                held = {r["display_name"]: (r["trigger"]["cron_schedule"]["cron"], r["mode"]) for r in stored}
                assert held == wanted, f"seed {seed}"
                assert len(held) == len(stored), f"seed {seed}: one is double"
        assert (len(cluster.pipelines), len(cluster.experiments)) == (1, 1)
        num_faults, seed = num_faults + faults.count, seed + 1


def write_random_schedules(path: Path, draw: random.Random) -> dict[str, tuple[str, str]]:
    entries = [
        {
            "name": name,
            "pipeline": "change_routes",
            "config": str(CONFIG),
            "cron": f"0 0 {draw.randrange(3)} * * *",
            "enabled": draw.random() < 0.7,
        }
        for name in ("a", "b", "c")
        if draw.random() < 0.8
    ]
    path.write_text(yaml.safe_dump({"owner": "shop", "schedules": entries}))
    return {str(e["name"]): (str(e["cron"]), "ENABLE" if e["enabled"] else "DISABLE") for e in entries}


def test_a_cluster_that_stays_away_is_given_up_with_a_word(package: Path) -> None:
    cluster = Cluster(draw_fault=lambda: Fault("503", is_after=False))
    clock = iter(range(0, 100_000, 40))
    impatient = Patience(sleep=lambda _: None, clock=lambda: float(next(clock)))
    with serve_cluster(cluster) as host, pytest.raises(UserError, match=r"does not come up.*503"):
        submit_pipeline(
            package, {"config": "{}"}, host=host, experiment="shop", run_name="one", patience=impatient
        )
    assert len(cluster.requests) > 3


def test_a_refusal_is_not_repeated(package: Path) -> None:
    cluster = Cluster(fail_on="/runs")
    with serve_cluster(cluster) as host, pytest.raises(UserError, match="HTTP 400"):
        submit(package, host, "one", top=1)
    assert sum(request.endswith(" /runs") for request in cluster.requests) == 1


@pytest.mark.parametrize(
    ("login", "variable", "prefix"),
    [
        ("cookie", credentials.COOKIE_FILE_VARIABLE, "oauth2_proxy_kubeflow="),
        ("token", credentials.TOKEN_FILE_VARIABLE, ""),
    ],
)
def test_a_login_that_is_renewed_while_waiting_ends_no_wait(
    package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, login: str, variable: str, prefix: str
) -> None:
    login_file = tmp_path / login
    login_file.write_text(f"{prefix}first\n")
    monkeypatch.setenv(variable, str(login_file))
    cluster = Cluster(**{login: f"{prefix}first"})

    def expire_then_renew(_: float) -> None:
        if getattr(cluster, login) == f"{prefix}first":
            setattr(cluster, login, f"{prefix}second")
        else:
            login_file.write_text(f"{prefix}second\n")

    waiting = Patience(sleep=expire_then_renew, clock=lambda: 0.0)
    with serve_cluster(cluster) as host:
        submitted = submit_pipeline(
            package,
            {"config": "{}"},
            host=host,
            experiment="shop",
            run_name="one",
            wait=True,
            patience=PATIENT,
            waiting=waiting,
        )
        assert submitted.state == "SUCCEEDED"
        setattr(cluster, login, "another")
        with pytest.raises(UserError, match=rf"refuses the credentials.*{variable}"):
            submit(package, host, "two", top=2)
