"""The whole house, once through: what the user is shown, what lies on the disk, and what a second run does."""

import json
from pathlib import Path

import polars as pl
import pytest

from contracts.artifacts import read_lineage, read_table
from contracts.tables import EXPOSURES, INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, KNOWLEDGE, OUTCOMES
from tests.e2e.conftest import reaseq

pytestmark = pytest.mark.e2e


@pytest.fixture
def run(demo):
    config, process = demo
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    artifacts = json.loads((config.parent / "work" / "small" / "deployed.json").read_text())
    return {name: Path(path) for name, path in artifacts.items()}


def test_the_demo_ranks_and_says_how_to_go_on(demo, run):
    output = demo[1].stdout

    assert '"arm":' in output
    assert "simulated requests" in output
    assert "peak memory" in output
    assert "make dashboard" in output
    assert "simulated traffic" in output


def test_every_table_keeps_its_contract(run):
    for name, file, table in (
        ("knowledge", "knowledge.parquet", KNOWLEDGE),
        ("item_embeddings", "item_embeddings.parquet", ITEM_EMBEDDINGS),
        ("inferred_behaviors", "inferred_behaviors.parquet", INFERRED_BEHAVIORS),
    ):
        frame = read_table(run[name] / file, table)
        assert len(frame) > 0
        table.check(frame)


def test_one_lineage_chain_answers_for_the_ranker(run):
    chain = read_lineage(run["challenger"]).chain.values()

    kinds = {entry["kind"] for entry in chain}
    assert {"dataset", "knowledge", "item_embeddings", "inferred_behaviors", "training_set"} <= kinds
    knowledge = next(entry for entry in chain if entry["kind"] == "knowledge")
    assert knowledge["labels"]["prompt_version"]
    assert knowledge["labels"]["teacher"]


def test_nothing_the_ranker_learnt_from_knew_the_future(run):
    rows = pl.read_parquet(run["training_set"] / "training_set.parquet")

    assert rows.filter(pl.col("history_as_of") >= pl.col("timestamp")).is_empty()
    assert rows.filter(pl.col("inferred_as_of") >= pl.col("timestamp")).is_empty()


def test_traffic_was_split_logged_and_reported(run, demo):
    home = demo[0].parent / "work" / "small"
    traffic = next((home / "steps").glob("monitor-*/collect-traffic/traffic"))
    exposures = read_table(traffic / "exposures.parquet", EXPOSURES)
    outcomes = read_table(traffic / "outcomes.parquet", OUTCOMES)

    assert set(exposures["arm"]) == {"control", "treatment"}
    assert len(exposures) == len(outcomes)
    # 150 requests of the traffic, and the one that the demo shows.
    assert exposures["request_id"].n_unique() == 151
    log = next((home / "serving").glob("gateway-*.log")).read_text()
    assert set(exposures["degraded"].explode().drop_nulls()) <= {"no_history", "no_inferred"}, (
        f"only new users lack a part: {log}"
    )
    assert (exposures["model_version"] == exposures["routed_version"]).all(), log
    assert json.loads(run["decision"].read_text())["action"] in {"hold", "promote", "rollback"}
    for report in ("drift", "lift"):
        assert "simulated traffic" in (run[report] / "report.html").read_text()


def test_a_second_run_does_no_work_twice(demo, run):
    again = reaseq("run", "--config", str(demo[0]))

    assert again.returncode == 0, again.stderr
    executed = {line.split(":")[0].strip() for line in again.stdout.splitlines() if ": success in" in line}
    assert executed == {"find-champion", "materialize-features", "deploy-ranker"}, "only what changes the world"
    reused = {line.split(":")[0].strip() for line in again.stdout.splitlines() if "unchanged, reused" in line}
    assert {"ingest", "distill-knowledge", "merge-knowledge", "embed-items", "train-behavior-model"} <= reused


def test_the_deployment_is_undone_in_one_command_once_there_is_something_to_go_back_to(demo, run):
    refused = reaseq("rollback", "--config", str(demo[0]))

    assert refused.returncode == 2
    assert "nothing to roll back to" in refused.stderr


def test_refreshing_the_users_goes_on_from_the_deployed_run(demo, run):
    refreshed = reaseq("run", "--config", str(demo[0]), "--pipeline", "refresh_users")

    assert refreshed.returncode == 0, refreshed.stdout[-2000:] + refreshed.stderr[-2000:]
    assert "materialize-features: success" in refreshed.stdout
