"""An empty cluster comes to a ranked request by manifests, the guide's secrets and `reaseq submit` alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.port_tables import KIND_TABLES
from contracts.errors import UserError
from serving.triton.triton_server import find_triton_wheel

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]
OWN_NODE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Mounts, network and processes of its own: whatever ends the walk, nothing of it stays."""


def _find_hindrance() -> str | None:
    for program in ("kubectl", "redis-server", "unshare"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    trial = [*OWN_NODE, "mount", "-t", "tmpfs", "tmpfs", "/var/lib"]
    if subprocess.run(trial, capture_output=True).returncode:
        return "no right to make a network and mounts of one's own (unshare)"
    try:
        find_triton_wheel()
    except UserError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if hindrance := _find_hindrance():
        pytest.skip(hindrance)
    folder = tmp_path_factory.mktemp("node")
    command = [*OWN_NODE, sys.executable, str(Path(__file__).with_name("walk_empty_cluster.py"))]
    done = subprocess.run(
        [*command, str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests/integration/pipelines"},
        capture_output=True,
        text=True,
    )
    logs = "".join(path.read_text(errors="replace")[-1500:] for path in (folder / "logs").glob("*"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + logs
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SEEN ")]
    return dict(json.loads(line.removeprefix("SEEN ")))


def test_on_an_empty_claim_all_live_and_the_gateway_says_what_it_waits_for(seen: dict[str, Any]) -> None:
    cold = seen["cold"]
    assert all(pod["liveness"][0] for pod in cold.values()), "nothing is restarted"
    assert cold["triton"]["readiness"][0], "or the deploy step would find no address for it"
    is_ready, reason = cold["gateway"]["readiness"]
    assert not is_ready
    assert "no ranker is deployed" in reason
    assert "reaseq_rank_seconds_count" in seen["cold_metrics"], "the alert GatewayDown stays silent"


def test_the_first_request_is_ranked_by_the_model(
    seen: dict[str, Any], record_property: Callable[[str, int], None]
) -> None:
    answer = seen["ranked"]
    record_property("ranked", int(answer["model_version"] != "fallback"))
    assert answer["model_version"] != "fallback"
    assert len(answer["items"]) == 4
    assert not {"model", "feature_store"} & set(answer["degraded"])
    assert seen["clicked"] == {"accepted": 1}


def test_nothing_was_restarted(seen: dict[str, Any], record_property: Callable[[str, int], None]) -> None:
    record_property("restarts", seen["restarts"])
    assert seen["restarts"] == 0
    assert all(probe[0] for pod in seen["warm"].values() for probe in pod.values())


def test_every_artifact_of_the_walk_holds_the_tables_that_its_components_promise(
    seen: dict[str, Any],
) -> None:
    assert seen["table_faults"] == []
    # All kinds with tables but the served log and the decision, which are no artifacts with a lineage.
    assert set(seen["kinds"]) == KIND_TABLES.keys() - {"served_log", "decision"}
