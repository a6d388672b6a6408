"""The whole house, once through: what the user is shown, what lies on the disk, what a second run does."""

import json
import socket
from pathlib import Path

import polars as pl
import pytest

from contracts.artifacts import read_lineage, read_table
from contracts.tables import EXPOSURES, INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, KNOWLEDGE, OUTCOMES
from tests.e2e.conftest import PORTS, run_reaseq

pytestmark = pytest.mark.e2e


@pytest.fixture
def deployed_artifacts(demo):
    config_path, finished_demo = demo
    assert finished_demo.returncode == 0, finished_demo.stdout[-3000:] + finished_demo.stderr[-3000:]
    artifact_folders = json.loads((config_path.parent / "work" / "small" / "deployed.json").read_text())
    return {name: Path(path) for name, path in artifact_folders.items()}


def test_the_demo_ranks_and_says_how_to_go_on(demo, deployed_artifacts):
    demo_output = demo[1].stdout

    assert '"arm":' in demo_output
    assert "simulated requests" in demo_output
    assert "peak memory" in demo_output
    assert "make dashboard" in demo_output
    assert "simulated traffic" in demo_output


def test_every_table_keeps_its_contract(deployed_artifacts):
    for artifact_name, file_name, table in (
        ("knowledge", "knowledge.parquet", KNOWLEDGE),
        ("item_embeddings", "item_embeddings.parquet", ITEM_EMBEDDINGS),
        ("inferred_behaviors", "inferred_behaviors.parquet", INFERRED_BEHAVIORS),
    ):
        frame = read_table(deployed_artifacts[artifact_name] / file_name, table)
        assert len(frame) > 0
        table.check_rows(frame)


def test_one_lineage_chain_answers_for_the_ranker(deployed_artifacts):
    lineage_entries = read_lineage(deployed_artifacts["challenger"]).chain.values()

    artifact_kinds = {entry["kind"] for entry in lineage_entries}
    assert {"dataset", "knowledge", "item_embeddings", "inferred_behaviors", "training_set"} <= artifact_kinds
    knowledge = next(entry for entry in lineage_entries if entry["kind"] == "knowledge")
    assert knowledge["labels"]["prompt_version"]
    assert knowledge["labels"]["teacher"]


def test_nothing_the_ranker_learnt_from_knew_the_future(deployed_artifacts):
    training_rows = pl.read_parquet(deployed_artifacts["training_set"] / "training_set.parquet")

    assert training_rows.filter(pl.col("history_as_of") >= pl.col("timestamp")).is_empty()
    assert training_rows.filter(pl.col("inferred_as_of") >= pl.col("timestamp")).is_empty()


def test_traffic_was_split_logged_and_reported(deployed_artifacts, demo):
    run_folder = demo[0].parent / "work" / "small"
    traffic_folder = next((run_folder / "steps").glob("monitor-*/collect-traffic/traffic"))
    exposures = read_table(traffic_folder / "exposures.parquet", EXPOSURES)
    outcomes = read_table(traffic_folder / "outcomes.parquet", OUTCOMES)

    assert set(exposures["arm"]) == {"control", "treatment"}
    assert len(exposures) == len(outcomes)
    # 150 requests of the traffic, and the one that the demo shows.
    assert exposures["request_id"].n_unique() == 151
    gateway_log = next((run_folder / "serving").glob("gateway-*.log")).read_text()
    assert set(exposures["degraded"].explode().drop_nulls()) <= {"no_history", "no_inferred"}, (
        f"only new users lack a part: {gateway_log}"
    )
    assert (exposures["model_version"] == exposures["routed_version"]).all(), gateway_log
    assert json.loads(deployed_artifacts["decision"].read_text())["action"] in {"hold", "promote", "rollback"}
    for report_name in ("drift", "lift"):
        assert "simulated traffic" in (deployed_artifacts[report_name] / "report.html").read_text()


def test_a_second_run_does_no_work_twice(demo, deployed_artifacts):
    # The demo's traffic would be learnt from, and everything be new.
    second_run = run_reaseq("run", "--config", str(demo[0]), "--set", "served_log.use=false")

    assert second_run.returncode == 0, second_run.stderr
    executed_steps = {
        line.split(":")[0].strip() for line in second_run.stdout.splitlines() if ": success in" in line
    }
    uncached_steps = {
        *("digest-sources", "collect-log", "find-champion"),
        *("materialize-features", "deploy-ranker"),
    }
    assert executed_steps == uncached_steps, "only what looks at the world or changes it"
    reused_steps = {
        line.split(":")[0].strip() for line in second_run.stdout.splitlines() if "unchanged, reused" in line
    }
    assert {
        "ingest",
        "distill-knowledge",
        "merge-knowledge",
        "embed-items",
        "train-behavior-model",
    } <= reused_steps


def test_without_an_earlier_deployment_there_is_nothing_to_roll_back(demo, deployed_artifacts):
    refused = run_reaseq("rollback", "--config", str(demo[0]))

    assert refused.returncode == 2
    assert "nothing to roll back to" in refused.stderr


def test_refreshing_the_users_goes_on_from_the_deployed_run(demo, deployed_artifacts):
    refreshed = run_reaseq("run", "--config", str(demo[0]), "--pipeline", "refresh_users")

    assert refreshed.returncode == 0, refreshed.stdout[-2000:] + refreshed.stderr[-2000:]
    assert "materialize-features: success" in refreshed.stdout
    run_folder = demo[0].parent / "work" / "small"
    dataset = json.loads((run_folder / "deployed.json").read_text())["dataset"]
    labels = read_lineage(Path(dataset)).labels
    assert int(labels["served_days"]) >= 1, "it knows what the demo served"


def test_a_port_already_taken_is_named_with_the_setting_to_change(demo):
    with socket.socket() as taken_port:
        taken_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken_port.bind(("127.0.0.1", PORTS["gateway"]))
        taken_port.listen()
        refused = run_reaseq("serve", "--config", str(demo[0]))

    assert refused.returncode == 2
    assert str(PORTS["gateway"]) in refused.stderr
    assert "serving.gateway.port" in refused.stderr


def test_without_triton_the_remedy_is_named(demo):
    refused = run_reaseq("serve", "--config", str(demo[0]), env={"REASEQ_TRITON_PYTHON": "/nowhere/python"})

    assert refused.returncode == 2
    assert "make setup" in refused.stderr
