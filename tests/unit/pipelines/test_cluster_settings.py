"""What cannot work in a pod is refused before it is sent, with a remedy; what ships for clusters passes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.errors import UserError
from pipelines.cluster.cluster_settings import is_loopback, require_cluster_settings
from pipelines.compiled_package import COMPILED_FOLDER, read_package
from pipelines.config import load_config
from pipelines.run_arguments import build_cluster_arguments

ROOT = Path(__file__).parents[3]
OVERLAY_OF = {"cluster": "overlays/production", "cluster-local": "base"}

CHOICES = {"deploy": True, "act": False, "train": False, "action": "show", "arm": "treatment"}


def check(*overrides: str, pipeline: str = "train_and_deploy", config: Path | None = None) -> None:
    package = COMPILED_FOLDER / f"{pipeline}.yaml"
    run_config = load_config(config or ROOT / "configs/cluster.yaml", list(overrides))
    parameters = build_cluster_arguments(package, run_config, choices=CHOICES)
    require_cluster_settings(run_config, parameters)


@pytest.mark.parametrize("name", OVERLAY_OF)
@pytest.mark.parametrize("pipeline", sorted(path.stem for path in COMPILED_FOLDER.glob("*.yaml")))
def test_the_shipped_configurations_pass(name: str, pipeline: str) -> None:
    check(pipeline=pipeline, config=ROOT / f"configs/{name}.yaml")


@pytest.mark.parametrize("name", OVERLAY_OF)
def test_the_shipped_configurations_agree_with_the_servers(name: str) -> None:
    ours = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text())["serving"]
    served: dict[str, Any] = json.loads((ROOT / "infra/k8s" / OVERLAY_OF[name] / "serving.json").read_text())
    for section, values in ours.items():
        assert values.items() <= served[section].items(), section


DATA = "data={items: {uri: %s}, events: {uri: /var/lib/reaseq/e.csv}}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serving.triton.host=127.0.0.1", "serving.triton.host = 127.0.0.1"),
        ("serving.triton.host=localhost", "serving.triton.host = localhost"),
        ("serving.triton.addresses=['127.0.0.1:8001']", "serving.triton.addresses: 127.0.0.1:8001"),
        ("features.online_store=sqlite", "features.online_store = sqlite"),
        (
            "features.redis_connection='localhost:6379,password=x'",
            "features.redis_connection names localhost",
        ),
        ("knowledge.teacher={kind: openai, model: m, base_url: 'http://127.0.0.1:8000/v1'}", "base_url"),
        (
            "knowledge.teacher={kind: replay, recordings: data/known.jsonl}",
            "knowledge.teacher.recordings = data/known.jsonl is a path of this machine",
        ),
        (
            "knowledge.teacher={kind: cascade, share: 0.1, fallback: {kind: handbook}, "
            "student: {kind: openai, model: small, base_url: 'http://localhost:8000/v1'}}",
            "knowledge.teacher.student.base_url = http://localhost:8000/v1 is the pod itself",
        ),
        ("knowledge.teacher={kind: handbook, folder: concepts}", "/var/lib/reaseq/data/concepts"),
        (DATA % "data/products.csv", "data.items.uri = data/products.csv is a path of this machine"),
        (DATA % "/home/me/products.csv", "/var/lib/reaseq/data/products.csv"),
        (DATA % "file:///home/me/products.csv", "a path of this machine"),
        (DATA % "http://localhost:9000/p.csv", "is the pod itself"),
        (DATA % "nostore://bucket/p.csv", "needs a driver"),
    ],
)
def test_a_laptops_setting_is_named_with_its_remedy(override: str, message: str) -> None:
    with pytest.raises(UserError, match="cannot work in a pod") as refused:
        check(override)
    assert message in str(refused.value)
    assert "configs/cluster.yaml" in str(refused.value)


def test_all_are_told_at_once_and_only_where_a_step_reads_them() -> None:
    laptop = ("serving.triton.host=127.0.0.1", "features.online_store=sqlite")
    with pytest.raises(UserError, match=r"2 setting\(s\)"):
        check(*laptop)
    check(*laptop, pipeline="simulate_shop")
    with pytest.raises(UserError, match=r"1 setting\(s\)"):
        check(*laptop, pipeline="refresh_users")
    assert "serving_config" not in read_package(COMPILED_FOLDER / "refresh_users.yaml").parameters


@pytest.mark.parametrize("override", [DATA % "/var/lib/reaseq/data/p.csv", DATA % "'duckdb:select 1'"])
def test_what_a_pod_can_read_passes(override: str) -> None:
    check(override)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "0.0.0.0", "LOCALHOST", "a.localhost", "::ffff:127.0.0.1"],
)
def test_names_of_the_machine_itself(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["triton", "redis.reaseq.svc", "10.0.0.1", "localhosts", ""])
def test_names_of_others(host: str) -> None:
    assert not is_loopback(host)
