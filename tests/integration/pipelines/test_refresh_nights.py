"""Five nights of scheduled refreshes on a backend that caches as Kubeflow's does and expands no macro."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml
from kfp_driver import Driver, Inputs
from kfp_server import Cluster

from components.collect_log.component import collect_log
from components.digest_sources.component import digest_sources
from components.find_deployment.component import find_deployment
from components.record_refresh.component import record_refresh
from contracts.errors import UserError
from models.ranker.config import IDS_ONLY
from models.ranker.inputs.ranker_spec import (
    SPEC_FILE,
    RankerSpec,
    list_graph_inputs,
    list_graph_outputs,
    name_model,
)
from pipelines.compiled_package import COMPILED_FOLDER
from pipelines.step_settings import WORKSPACE_MOUNT
from reaseq.cli import main
from serving.deployment.deployment_records import DeployedArtifacts, record_deployment, require_in_service
from serving.deployment.routes import Arm, ExperimentPlan, read_previous_routes, write_routes

pytestmark = pytest.mark.integration

FEATURES = IDS_ONLY
# What a night with nothing new may run: it looks, and it writes what is unchanged.
UNCACHED = {"digest-sources", "collect-log", "find-deployment", "materialize-features", "record-refresh"}


class Shop:
    """The user's files, and the claim `reaseq-state`, as pods see them."""

    def __init__(self, folder: Path) -> None:
        self.data, self.workspace = folder / "data", folder / "claim"
        self.state = self.workspace / "serving"
        self.data.mkdir()
        self.write_events(1)
        pl.DataFrame({"item_id": ["a", "b"], "title": ["One", "Two"], "category": ["x", "x"]}).write_parquet(
            self.data / "items.parquet"
        )
        self.materialized: list[str] = []
        self.models_used: list[str] = []
        self.on_materialize = lambda: None

    def write_events(self, count: int) -> None:
        rows = {"user_id": ["u"] * count, "item_id": ["a"] * count, "timestamp": list(range(count))}
        pl.DataFrame(rows).write_parquet(self.data / "events.parquet")

    def deploy(self, version: str) -> None:
        """What the deploy step does, without Triton: a record, then routes."""
        ranker = self.state / "made" / version
        ranker.mkdir(parents=True, exist_ok=True)
        spec = RankerSpec(
            model_name=name_model(version * 8),
            version=version * 8,
            space=f"space-{version}",
            feature_service="ranker",
            history_length=4,
            inferred_length=2,
            embedding_dim=3,
            features=FEATURES,
            inputs=list_graph_inputs(FEATURES, history=4, inferred=2, dim=3),
            outputs=list_graph_outputs(),
            vocabularies={},
            price_edges=(),
        )
        (ranker / SPEC_FILE).write_text(spec.model_dump_json())
        artifacts = DeployedArtifacts(
            **{name: f"minio://bucket/{version}/{name}" for name in DeployedArtifacts.model_fields}
        )
        record_deployment([ranker], artifacts, state=self.state)
        plan = ExperimentPlan(
            experiment="ranker", salt="1", arms={"control": Arm(model=spec.model_name, share=1)}
        )
        write_routes(self.state, plan, note=f"deploy {version}")

    def make_steps(self) -> dict[str, object]:
        """The steps that look at the world, with their real code; paths of pods become ours."""

        def call(component: object) -> object:
            def run(inputs: Inputs) -> dict[str, object]:
                values = {
                    name: str(value).replace(WORKSPACE_MOUNT, str(self.workspace))
                    for name, value in inputs.parameters.items()
                }
                result = component.python_func(**values)
                return result._asdict() if hasattr(result, "_asdict") else {"Output": result}

            return run

        def collect(inputs: Inputs) -> dict[str, object]:
            class Metrics:
                path = str(self.workspace / "metrics")

                def log_metric(self, name: str, value: float) -> None: ...

            values = {**inputs.parameters, "workspace": str(self.workspace)}
            return {"Output": collect_log.python_func(**values, metrics=Metrics())}

        def materialize(inputs: Inputs) -> dict[str, object]:
            self.on_materialize()
            require_in_service(inputs.parameters["deployment"], state=self.state)
            self.materialized.append(inputs.artifacts["features"][0].uri)
            return {}

        def infer(inputs: Inputs) -> dict[str, object]:
            self.models_used.append(inputs.artifacts["behavior_model"][0].uri)
            return {}

        return {
            "digest-sources": call(digest_sources),
            "find-deployment": call(find_deployment),
            "record-refresh": call(record_refresh),
            "collect-log": collect,
            "materialize-features": materialize,
            "infer-behaviors": infer,
        }


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.deploy("a")
    return shop


def schedule(shop: Shop, host: str, pipeline: str, tmp_path: Path, *options: str) -> None:
    config = tmp_path / "shop.yaml"
    sources = {name: f"{WORKSPACE_MOUNT}/data/{name}.parquet" for name in ("items", "events")}
    settings = {
        "data": {
            "items": {"uri": sources["items"]},
            "events": {"uri": sources["events"], "event_type": "click", "time_unit": "s"},
        },
        "features": {"online_store": "redis"},
        "serving": {"triton": {"host": "triton"}},
    }
    config.write_text(yaml.safe_dump(settings))
    words = ["submit", "--host", host, "--config", str(config), "--pipeline", pipeline, *options]
    assert main([*words, "--schedule", "0 30 3 * * *"]) == 0
    if not (shop.workspace / "data").exists():
        shop.workspace.mkdir(exist_ok=True)
        (shop.workspace / "data").symlink_to(shop.data)


class Nights:
    """Triggers the schedule again and again."""

    def __init__(self, cluster: Cluster, shop: Shop) -> None:
        self.cluster, self.shop = cluster, shop
        self.driver = Driver(shop.make_steps())

    def pass_night(self) -> set[str]:
        """Returns the steps that ran, those that are never cached aside."""
        (schedule_id,) = self.cluster.recurring_runs
        run = self.cluster.trigger(schedule_id)
        parameters = run["runtime_config"]["parameters"]
        self.driver.run_pipeline(self.cluster.read_spec(run), parameters, run_id=run["run_id"])
        assert set(self.driver.executed) >= UNCACHED
        return set(self.driver.executed) - UNCACHED


@pytest.mark.parametrize("pipeline", ["refresh_users", "refresh_catalogue"])
def test_five_nights(
    pipeline: str,
    shop: Shop,
    cluster: Cluster,
    host: str,
    tmp_path: Path,
    record_property: Callable[[str, int], None],
) -> None:
    """`make bench-kubeflow` publishes the nights that it records."""
    schedule(shop, host, pipeline, tmp_path)
    nights = Nights(cluster, shop)
    all_cached_steps = nights.pass_night()
    assert {"ingest", "infer-behaviors", "merge-inferred", "build-features"} <= all_cached_steps
    record_property("nights_right", 1)

    assert nights.pass_night() == set(), "nothing changed: all from the cache"
    record_property("nights_right", 1)

    shop.write_events(2)
    assert nights.pass_night() == all_cached_steps, "the log grew"
    assert set(shop.models_used) == {"minio://bucket/a/behavior_model"}
    record_property("nights_right", 1)

    shop.deploy("b")
    ran = nights.pass_night()
    assert {"infer-behaviors", "merge-inferred", "build-features"} <= ran, "the new model infers"
    assert "ingest" not in ran, "the data is the same"
    assert shop.models_used[-1] == "minio://bucket/b/behavior_model"
    record_property("nights_right", 1)

    write_routes(shop.state, read_previous_routes(shop.state).as_plan, note="rollback")
    assert nights.pass_night() == set(), "back at the former model, whose work is in the cache"
    assert len(shop.materialized) == 5
    assert shop.materialized[4] == shop.materialized[2] != shop.materialized[3]
    record_property("nights_right", 1)


def test_a_deployment_in_the_middle_of_a_refresh_is_not_overwritten(
    shop: Shop, cluster: Cluster, host: str, tmp_path: Path
) -> None:
    schedule(shop, host, "refresh_users", tmp_path)
    nights = Nights(cluster, shop)
    shop.on_materialize = lambda: shop.deploy("b")
    with pytest.raises(UserError, match="no longer in service"):
        nights.pass_night()
    assert shop.materialized == []
    shop.on_materialize = lambda: None
    nights.pass_night()
    assert shop.models_used[-1] == "minio://bucket/b/behavior_model"


def test_the_monitor_looks_at_what_is_in_service(
    shop: Shop, cluster: Cluster, host: str, tmp_path: Path
) -> None:
    schedule(shop, host, "monitor", tmp_path)
    seen: list[str] = []
    steps = shop.make_steps() | {
        "collect-traffic": lambda inputs: seen.append(inputs.artifacts["evaluation"][0].uri) or {},
        "decide": lambda _: {"action": "hold", "retrain": False},
    }
    driver = Driver(steps)
    (schedule_id,) = cluster.recurring_runs
    for version in ("a", "b"):
        shop.deploy(version)
        run = cluster.trigger(schedule_id)
        driver.run_pipeline(cluster.read_spec(run), run["runtime_config"]["parameters"], run_id=run["run_id"])
    assert seen == ["minio://bucket/a/evaluation", "minio://bucket/b/evaluation"]


@pytest.mark.parametrize(
    ("options", "is_due", "trains"), [(["--act"], True, True), (["--act"], False, False), ([], True, False)]
)
def test_the_monitor_trains_and_deploys_within_its_run_when_that_is_due(
    options: list[str], is_due: bool, trains: bool, shop: Shop, cluster: Cluster, host: str, tmp_path: Path
) -> None:
    schedule(shop, host, "monitor", tmp_path, *options)
    given: list[dict[str, object]] = []

    def decide(inputs: Inputs) -> dict[str, object]:
        given.append(inputs.parameters)
        return {
            "action": "hold",
            "retrain": is_due and inputs.parameters["act"] and inputs.parameters["train"],
        }

    steps = shop.make_steps() | {"decide": decide, "evaluate-ranker": lambda _: {"promote": True}}
    # What these do with the files of a training is not looked at here.
    steps |= dict.fromkeys(("materialize-features", "infer-behaviors"), lambda _: {})
    driver = Driver(steps)
    (schedule_id,) = cluster.recurring_runs
    run = cluster.trigger(schedule_id)
    driver.run_pipeline(cluster.read_spec(run), run["runtime_config"]["parameters"], run_id=run["run_id"])
    trained = {"ingest", "train-behavior-model", "train-ranker", "evaluate-ranker", "deploy-ranker"}
    assert trained & set(driver.executed) == (trained if trains else set())
    assert given[0]["act"] == given[0]["train"] == bool(options)


@pytest.mark.parametrize("pipeline", ["refresh_users", "refresh_catalogue", "monitor", "train_and_deploy"])
def test_no_argument_pins_what_changes(pipeline: str) -> None:
    from pipelines.compiled_package import read_package

    names = set(read_package(COMPILED_FOLDER / f"{pipeline}.yaml").parameters)
    assert not [name for name in names if name.endswith(("_uri", "_digest"))]
