"""Deployment on a real Triton: load, parity, switch, roll back, refuse."""

import asyncio
import shutil
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from served_shop import Served, free_ports, write_ranker

from components.change_routes.component import change_routes as change_routes_step
from components.run_experiment.component import run_experiment as run_experiment_step
from contracts.artifacts import read_lineage
from contracts.digests import LINEAGE_FILE, digest_folder
from contracts.errors import UserError
from models.ranker.config import RankerConfig
from models.ranker.inputs.ranker_spec import GOLDEN_FILE, RankerSpec
from serving.config import ServingConfig, TritonConfig
from serving.deployment.deploy_rankers import deploy_rankers, load_routed_models, roll_back_routes
from serving.deployment.routes import Arm, Canary, read_routes
from serving.experiments.canary import start_canary
from serving.experiments.champion import promote_arm
from serving.experiments.experiment_order import ARTIFACT, ExperimentOrder
from serving.triton.triton_client import TritonControl, TritonError, TritonScorer
from serving.triton.triton_server import start_triton

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def config(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingConfig]:
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), free_ports(3), strict=True))
    triton = served.config.triton.model_copy(update=ports)
    state = tmp_path_factory.mktemp("deploy") / "serving"
    (state.parent / "feature_store").symlink_to(served.config.feature_store)
    config = served.config.model_copy(update={"triton": triton}).in_folders(state)
    with start_triton(config.model_repository, triton, scratch=state / "triton"):
        yield config


def test_deploy_switch_and_roll_back(
    served: Served, config: ServingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    control = TritonControl(config.triton)
    first = deploy_rankers({"control": served.baseline}, config, state=config.state)
    assert first["revision"] == 1
    assert first["parity_max_difference"] < 1e-4
    assert "no query encoder" not in caplog.text, "a ranker on ids reads no page"
    second = deploy_rankers(
        {"control": served.baseline, "treatment": served.challenger}, config, state=config.state
    )
    assert second["arms"] == 2
    assert "no query encoder of space 'sample-space'" in caplog.text
    models = {RankerSpec.read(path).model_name for path in (served.baseline, served.challenger)}
    assert read_routes(config.state).model_names == control.list_loaded_models() == models
    assert roll_back_routes(config, state=config.state).arms.keys() == {"control"}
    assert load_routed_models(config).revision == 3


def test_only_the_routed_and_the_previous_models_stay(
    served: Served, config: ServingConfig, tmp_path: Path
) -> None:
    dataset, names = served.challenger.parent / "dataset", []
    for number in range(4):
        spec = write_ranker(RankerConfig(dim=8, seed=100 + number), dataset, tmp_path / f"ranker{number}")
        deploy_rankers({"all": tmp_path / f"ranker{number}"}, config, state=config.state)
        names.append(spec.model_name)
        in_repository = {path.name for path in config.model_repository.iterdir()}
        assert TritonControl(config.triton).list_loaded_models() == in_repository
        assert names[-1] in in_repository
        assert len(in_repository) <= 3, "routed and previous, however many were deployed"
    assert in_repository == set(names[-2:])
    assert roll_back_routes(config, state=config.state).model_names == {names[-2]}


def test_every_replica_behind_a_name_follows_the_routes(
    served: Served, config: ServingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second replica starts while the first is being deployed to, as an autoscaler would have it."""
    replicas, resolve = ["127.0.0.1"], socket.getaddrinfo

    def resolve_name(host: str, port: int, *rest: Any, **options: Any) -> Any:
        if host != "triton.test":
            return resolve(host, port, *rest, **options)
        answer = [(None, None, None, "", (address, port)) for address in replicas]
        replicas[:] = ["127.0.0.1", "127.0.0.2"]
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", resolve_name)
    monkeypatch.setattr("serving.triton.triton_server._LOOPBACK", "127.0.0.2")
    with start_triton(config.model_repository, config.triton, scratch=tmp_path / "second"):
        named = config.model_copy(update={"triton": config.triton.model_copy(update={"host": "triton.test"})})
        deploy_rankers({"all": served.challenger}, named, state=config.state)
        for address in replicas:
            only = TritonConfig(addresses=(f"{address}:{config.triton.grpc_port}",))
            assert RankerSpec.read(served.challenger).model_name in TritonControl(only).list_loaded_models()


@pytest.mark.parametrize("dies", ["before_it_loads", "before_it_answers"])
def test_a_replica_that_dies_in_mid_deployment_changes_no_route(
    served: Served, config: ServingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    addresses = tuple(f"127.0.0.{number}:{config.triton.grpc_port}" for number in (1, 2))
    both = config.model_copy(update={"triton": config.triton.model_copy(update={"addresses": addresses})})
    monkeypatch.setattr("serving.triton.triton_server._LOOPBACK", "127.0.0.2")
    start_second = partial(start_triton, config.model_repository, config.triton)
    with start_second(scratch=tmp_path / "second") as second:
        deploy_rankers({"all": served.baseline}, both, state=config.state)
        before = read_routes(config.state)
        step = {"before_it_loads": "load_model", "before_it_answers": "run_on_each_server"}[dies]
        carry_out = getattr(TritonControl, step)

        def die_first(*arguments: Any, **options: Any) -> Any:
            second.kill()
            return carry_out(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(TritonControl, step, die_first)
            with pytest.raises(TritonError, match=r"Triton at 127\.0\.0\.2:\d+ could not"):
                deploy_rankers({"all": served.challenger}, both, state=config.state)
    assert read_routes(config.state) == before
    assert load_routed_models(config) == before, "the other replica answers as before"
    with start_second(scratch=tmp_path / "again"):
        deploy_rankers({"all": served.challenger}, both, state=config.state)
        new = RankerSpec.read(served.challenger).model_name
        assert read_routes(config.state).model_names == {new}
        for address in addresses:
            loaded = TritonControl(TritonConfig(addresses=(address,))).list_loaded_models()
            assert new in loaded


def test_a_ranker_with_a_value_head_is_served(served: Served, config: ServingConfig, tmp_path: Path) -> None:
    dataset = served.challenger.parent / "dataset"
    ranker = RankerConfig(dim=8, value_weight=0.1)
    spec = write_ranker(ranker, dataset, tmp_path / "ranker")
    deployed = deploy_rankers({"all": tmp_path / "ranker"}, config, state=config.state)
    assert deployed["parity_max_difference"] < 1e-4
    with np.load(tmp_path / "ranker" / GOLDEN_FILE, allow_pickle=False) as golden:
        feed = {tensor.name: golden[f"input_{tensor.name}"][:1] for tensor in spec.inputs}
    (answer,) = TritonControl(config.triton).run_on_each_server(spec.model_name, feed, ("order", "value"))
    np.testing.assert_array_less(0, answer["value"])


def test_answers_do_not_depend_on_who_else_asks(served: Served, config: ServingConfig) -> None:
    deploy_rankers({"all": served.challenger}, config, state=config.state)
    spec = RankerSpec.read(served.challenger)
    with np.load(served.challenger / GOLDEN_FILE, allow_pickle=False) as golden:
        feed = {tensor.name: golden[f"input_{tensor.name}"] for tensor in spec.inputs}
        expected = golden["output_score"]

    async def ask() -> None:
        scorer = TritonScorer(config.triton)
        rows = [{name: values[row : row + 1] for name, values in feed.items()} for row in (0, 1, 2) * 20]
        answers = await asyncio.gather(
            *(scorer.score(spec.model_name, row, ("score",), timeout_s=20) for row in rows)
        )
        for index, answer in enumerate(answers):
            np.testing.assert_allclose(answer["score"][0], expected[index % 3], atol=1e-4)
        with pytest.raises(TritonError):
            await scorer.score("ranker_absent", rows[0], ("score",), timeout_s=1)
        await scorer.close()

    asyncio.run(ask())


def test_a_ranker_that_answers_otherwise_is_not_switched_to(
    served: Served, config: ServingConfig, tmp_path: Path
) -> None:
    deploy_rankers({"all": served.baseline}, config, state=config.state)
    before = read_routes(config.state)
    wrong = tmp_path / "wrong"
    shutil.copytree(served.challenger, wrong)
    with np.load(wrong / GOLDEN_FILE, allow_pickle=False) as golden:
        rows = dict(golden)
    np.savez_compressed(
        wrong / GOLDEN_FILE, allow_pickle=False, **rows | {"output_score": rows["output_score"] + 1}
    )
    with pytest.raises(UserError, match="changed after it was made"):
        deploy_rankers({"all": wrong}, config, state=config.state)
    lineage = read_lineage(wrong).model_copy(update={"digest": digest_folder(wrong)})
    (wrong / LINEAGE_FILE).write_text(lineage.model_dump_json(), encoding="utf-8")
    with pytest.raises(RuntimeError, match="differs from its golden rows"):
        deploy_rankers({"all": wrong}, config, state=config.state)
    assert read_routes(config.state) == before


def test_a_ranker_of_another_space_is_refused(served: Served, config: ServingConfig, tmp_path: Path) -> None:
    dataset = served.challenger.parent / "dataset"
    write_ranker(RankerConfig(dim=8), dataset, tmp_path / "other", space="other-space")
    with pytest.raises(UserError, match="needs embedding space 'other-space'"):
        deploy_rankers({"all": tmp_path / "other"}, config, state=config.state)


def test_a_canary_grows_takes_over_and_goes_back(served: Served, config: ServingConfig) -> None:
    deploy_rankers({"control": served.baseline}, config, state=config.state)
    old, new = (RankerSpec.read(path).model_name for path in (served.baseline, served.challenger))
    promote_arm("control", state=config.state)
    for share in (0.1, 0.5):
        routes = start_canary(served.challenger, config, state=config.state, arm="control", share=share)
        assert routes.arms["control"].canary == Canary(model=new, share=share)
    routes = start_canary(served.challenger, config, state=config.state, arm="control", share=1)
    assert (routes.arms, routes.champion) == ({"control": Arm(model=new, share=1)}, new)
    back = roll_back_routes(config, state=config.state)
    assert back.model_names == {old, new}
    assert back.champion == old
    ended = start_canary(served.challenger, config, state=config.state, arm="control", share=0)
    assert ended.model_names == {old}


def test_an_operator_tries_a_ranker_by_the_clusters_step(served: Served, config: ServingConfig) -> None:
    deploy_rankers({"control": served.baseline}, config, state=config.state)
    old, new = (RankerSpec.read(path).model_name for path in (served.baseline, served.challenger))

    def change(share: float, ranker: str = "", artifact: Path | None = None) -> set[str]:
        # As kfp runs it: the artifact is an object with a path, or none.
        change_routes_step.python_func(
            action="canary",
            arm="control",
            ranker=ranker,
            share=share,
            config=config.model_dump_json(),
            workspace=str(config.state.parent),
            artifact=artifact and SimpleNamespace(path=str(artifact)),
        )
        return read_routes(config.state).model_names

    with pytest.raises(UserError, match="arm 'control' has no canary; name a ranker"):
        change(0.5)
    assert change(0.1, artifact=served.challenger) == {old, new}
    assert change(0.5) == {old, new}, "the one that is being tried"
    canary = read_routes(config.state).arms["control"].canary
    assert canary is not None
    assert canary.share == 0.5
    assert change(0) == {old}
    assert change(0.2, ranker=new) == {old, new}, "by its name: it was there before"
    assert change(1) == {new}


def test_an_experiment_of_a_cluster_is_started_watched_and_stopped(
    config: ServingConfig, served: Served
) -> None:
    deploy_rankers({"control": served.baseline}, config, state=config.state)
    (old,) = read_routes(config.state).model_names

    def ask(artifact: Path | None = None, **order: object) -> str:
        return str(
            run_experiment_step.python_func(
                order=ExperimentOrder.model_validate({"by": "ana", **order}).model_dump_json(),
                serving_config=config.model_dump_json(),
                monitoring_config="{}",
                workspace=str(config.state.parent),
                artifact=artifact and SimpleNamespace(path=str(artifact)),
            )
        )

    start = {"action": "start", "rankers": {"treatment": ARTIFACT}, "shares": {"treatment": 0.25}}
    assert "started experiment exp-" in ask(served.challenger, **start)
    routes = read_routes(config.state)
    new = routes.arms["treatment"].model
    assert (routes.arms["control"].model, routes.arms["treatment"].share) == (old, 0.25)
    with pytest.raises(UserError, match="there is one already"):
        ask(served.challenger, **start)
    assert "nobody has seen it yet" in ask(action="status")
    with pytest.raises(UserError, match="no arm 'gone' to keep"):
        ask(action="stop", keep="gone")
    assert "kept treatment: it won" in ask(action="stop", keep="treatment", note="it won")
    assert read_routes(config.state).model_names == {new}
    assert "the last one was exp-" in ask(action="status")


@pytest.mark.parametrize(
    ("ranker", "arm", "share", "message"),
    [
        ("challenger", "nobody", 0.1, "no arm 'nobody'"),
        ("challenger", "control", 1.1, "between 0 and 1"),
        ("baseline", "control", 0.1, "already"),
    ],
)
def test_a_canary_that_makes_no_sense_is_refused(
    served: Served, config: ServingConfig, ranker: str, arm: str, share: float, message: str
) -> None:
    deploy_rankers({"control": served.baseline}, config, state=config.state)
    with pytest.raises(UserError, match=message):
        start_canary(getattr(served, ranker), config, state=config.state, arm=arm, share=share)


def test_a_holdout_without_a_control_is_refused(served: Served, config: ServingConfig) -> None:
    wrong = config.model_copy(update={"holdout": 0.1})
    with pytest.raises(UserError, match="a holdout needs an arm 'control'"):
        deploy_rankers({"a": served.baseline, "b": served.challenger}, wrong, state=config.state)


def test_shares_must_fit_the_arms(served: Served, config: ServingConfig) -> None:
    wrong = config.model_copy(update={"shares": {"a": 0.5, "b": 0.5}})
    with pytest.raises(UserError, match=r"serving\.shares"):
        deploy_rankers({"a": served.baseline}, wrong, state=config.state)


def test_a_second_server_on_the_same_ports_is_refused(config: ServingConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"serving\.triton\.http_port"):
        start_triton(config.model_repository, config.triton, scratch=tmp_path)
