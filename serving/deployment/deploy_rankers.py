"""Puts rankers into service, and takes them back.

The steps are publish, load, warm up, check parity, switch. Nothing that answers users changes before the last
one, which replaces one small file.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError

from contracts.errors import UserError
from feature_repo.feature_services import register_service
from feature_repo.online.materialize_features import read_history_length
from feature_repo.online.query_encoders import locate_query_encoder
from models.ranker.inputs.ranker_spec import GOLDEN_FILE, RankerSpec, measure_parity_gap
from serving.config import ServingConfig, TritonConfig
from serving.deployment.deployment_records import DeployedArtifacts, record_deployment
from serving.deployment.routes import (
    Arm,
    ExperimentPlan,
    Routes,
    find_routes_file,
    read_previous_routes,
    read_revision,
    read_routes,
    write_routes,
)
from serving.experiments.champion import read_champion_name
from serving.gateway.deployed_ranker import install_ranker, name_feature_service
from serving.triton.model_repository import delete_models, list_models_since, publish_model
from serving.triton.triton_client import TritonControl, list_servers
from serving.triton.triton_server import start_triton

PARITY_TOLERANCE: Final = 1e-3
"""Largest difference to the golden rows; float32 sums in another order stay far below it."""
_LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost")
_log = logging.getLogger(__name__)


def deploy_rankers(
    arms: dict[str, Path],
    config: ServingConfig,
    *,
    state: Path,
    artifacts: DeployedArtifacts | None = None,
) -> dict[str, float]:
    """Puts one ranker per arm into service.

    Where Triton is not running on this machine, one is started for the checks and stopped again; the next
    start of the local stack loads what the routes name.

    Args:
        arms: arm -> ranker artifact.
        config: serving settings; the feature store is taken from beside `state`.
        state: folder of the model repository and the routes.
        artifacts: what the rankers work with, for refreshes and the monitor; none where a test or a
            benchmark deploys bare rankers.

    Returns:
        `revision` of the routes, number of `arms`, and `parity_max_difference`.

    Raises:
        UserError: an artifact is not a ranker, its embedding space is not the feature store's, the shares do
            not fit the arms, or Triton is not there.
        RuntimeError: Triton answers the golden rows differently; the routes stay as they were.
    """
    config = config.in_folders(state)
    revision_before = read_revision(state)
    shares = _share_users(arms, config)
    model_names = {arm_name: RankerSpec.read(artifact).model_name for arm_name, artifact in arms.items()}
    new_plan = _make_plan(
        {
            arm_name: Arm(model=model_name, share=shares[arm_name])
            for arm_name, model_name in model_names.items()
        },
        config,
    )
    for artifact in arms.values():
        publish_ranker(artifact, config)
    with open_triton_control(config) as triton_control:
        parity_gaps = [
            load_and_check_parity(model_name, triton_control, config.rankers_folder)
            for model_name in model_names.values()
        ]
        # A server that started meanwhile may have read the repository before the models lay there.
        while triton_control.join_new_servers():
            for model_name in model_names.values():
                load_and_check_parity(model_name, triton_control, config.rankers_folder)
        if artifacts is not None:
            # The record before the routes: routes without a record would send refreshes to the former one.
            new_rankers = [path for path in arms.values() if path.resolve().parent != config.rankers_folder]
            record_deployment(new_rankers, artifacts, state=state)
        new_routes = write_routes(state, new_plan, note="deploy", after=revision_before)
        retire_unused_models(triton_control, config)
    return {"revision": new_routes.revision, "arms": len(arms), "parity_max_difference": max(parity_gaps)}


def roll_back_routes(config: ServingConfig, *, state: Path) -> Routes:
    """Puts the previous routes back into effect, once their models are loaded and answer their golden rows.

    Raises:
        UserError: there are no earlier routes, Triton is not there, or the routes were changed meanwhile.
        RuntimeError: a previous model no longer answers as it did; the routes stay as they were.
    """
    config = config.in_folders(state)
    revision_before = read_revision(state)
    previous = read_previous_routes(state)
    with open_triton_control(config) as triton_control:
        for model_name in sorted(previous.model_names):
            if not (config.model_repository / model_name).is_dir():
                publish_model(config.rankers_folder / model_name, config.model_repository, config.triton)
            load_and_check_parity(model_name, triton_control, config.rankers_folder)
    note = f"rollback to revision {previous.revision}"
    return write_routes(state, previous.as_plan, note=note, after=revision_before)


def load_routed_models(config: ServingConfig) -> Routes:
    """Loads every model that the routes name into a running Triton (after its restart).

    Raises:
        UserError: nothing was deployed.
        RuntimeError: a model does not answer as it should.
    """
    routes = read_routes(config.state)
    with closing(TritonControl(config.triton)) as triton_control:
        for model_name in sorted(routes.model_names):
            load_and_check_parity(model_name, triton_control, config.rankers_folder)
    return routes


@contextmanager
def open_triton_control(config: ServingConfig) -> Iterator[TritonControl]:
    """Control of the running Triton, or of one started for the time being.

    Raises:
        UserError: there is none and none can be started here.
    """
    with ExitStack() as stack:
        triton_control = stack.enter_context(closing(TritonControl(config.triton)))
        if not triton_control.is_live():
            _require_local_triton(config.triton)
            scratch = config.state / "triton"
            stack.enter_context(start_triton(config.model_repository, config.triton, scratch=scratch))
            # A fresh channel: the first one has seen a dead server, and would wait before it tries again.
            triton_control = stack.enter_context(closing(TritonControl(config.triton)))
        yield triton_control


def publish_ranker(artifact: Path, config: ServingConfig) -> RankerSpec:
    """Makes a ranker ready to be loaded; nothing is served before that.

    Raises:
        UserError: the artifact is not a ranker, or the feature store does not hold what it reads.
    """
    spec = install_ranker(artifact, config.rankers_folder)
    stored_length = read_history_length(config.feature_store)
    if spec.fetched_length > stored_length:
        raise UserError(
            f"{spec.model_name} reads {spec.fetched_length} behaviors of a user, the feature store in "
            f"{config.feature_store} keeps {stored_length}; materialize with a larger "
            "features.history_length, or train with a smaller one."
        )
    _warn_without_query_encoder(spec, config)
    register_service(
        config.feature_store,
        name_feature_service(spec),
        space=spec.space,
        description=f"Features of ranker {spec.version}.",
        dim=spec.embedding_dim,
    )
    return publish_model(artifact, config.model_repository, config.triton)


def _warn_without_query_encoder(spec: RankerSpec, config: ServingConfig) -> None:
    reads_page_vector = "context_vectors" in spec.input_names
    if not reads_page_vector or spec.space is None:
        return
    if not locate_query_encoder(config.feature_store, spec.space).is_dir():
        _log.warning(
            "%s reads what a page is about, but %s has no query encoder of space '%s': queries and "
            "categories stay unknown to it, and answers say no_context",
            spec.model_name,
            config.feature_store,
            spec.space,
        )


def load_and_check_parity(model_name: str, control: TritonControl, rankers_folder: Path) -> float:
    """Loads a model and returns its largest difference to the golden rows, sent one by one as requests come.

    Raises:
        RuntimeError: the difference is too large.
    """
    spec = RankerSpec.read(rankers_folder / model_name)
    control.load_model(model_name)
    with np.load(rankers_folder / model_name / GOLDEN_FILE, allow_pickle=False) as golden_rows:
        golden_feed = {tensor.name: golden_rows[f"input_{tensor.name}"] for tensor in spec.inputs}
        expected_outputs = {tensor.name: golden_rows[f"output_{tensor.name}"] for tensor in spec.outputs}
    gaps = [0.0]
    for row in range(len(next(iter(golden_feed.values())))):
        one_row = {output_name: values[row : row + 1] for output_name, values in golden_feed.items()}
        for server_outputs in control.run_on_each_server(model_name, one_row, tuple(expected_outputs)):
            gaps += [
                measure_parity_gap(server_outputs[output_name], values[row : row + 1])
                for output_name, values in expected_outputs.items()
            ]
    # Not max(): it would lose a NaN.
    largest_gap = float(np.max(gaps))
    if not largest_gap <= PARITY_TOLERANCE:
        raise RuntimeError(
            f"{model_name} in Triton differs from its golden rows by {largest_gap:.2e}, more than "
            f"{PARITY_TOLERANCE:.0e}; the routes were not changed."
        )
    return largest_gap


def retire_unused_models(control: TritonControl, config: ServingConfig) -> None:
    """Unloads all but the current models and the previous ones, which a rollback needs at once; then deletes
    them from the repository.

    A Triton that starts loads what lies there: each former model would cost it time and memory for ever. A
    model that was published after the routes were written stays: another run is about to route it.
    """
    routes = read_routes(config.state)
    models_in_use = routes.model_names | list_models_since(
        config.model_repository, find_routes_file(config.state, routes.revision)
    )
    # The first deployment has nothing before it.
    with suppress(UserError):
        models_in_use |= read_previous_routes(config.state).model_names
    for model_name in control.list_loaded_models() - models_in_use:
        control.unload_model(model_name)
    delete_models(config.model_repository, config.triton, keep=models_in_use)


def _require_local_triton(triton: TritonConfig) -> None:
    if triton.addresses or triton.host not in _LOOPBACK_HOSTS:
        raise UserError(
            f"no Triton answers at {', '.join(list_servers(triton))}; start it, or correct "
            "serving.triton.host and grpc_port (or addresses)."
        )


def _share_users(arms: dict[str, Path], config: ServingConfig) -> dict[str, float]:
    shares = config.shares or {arm_name: 1 / len(arms) for arm_name in arms}
    if set(shares) != set(arms) or abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(f"serving.shares = {shares} must give each of {', '.join(arms)} a share and sum to 1")
    return shares


def _make_plan(arms: dict[str, Arm], config: ServingConfig) -> ExperimentPlan:
    try:
        return ExperimentPlan(
            experiment=config.experiment,
            salt=config.salt,
            arms=arms,
            layers=config.layers,
            holdout=config.holdout,
            champion=read_champion_name(config.state),
        )
    except ValidationError as error:
        raise UserError(f"serving: {error.errors()[0]['msg']}") from error
