"""Puts rankers into service, and takes them back: publish, load, warm up, check parity, switch.

Nothing that answers users changes before the last step, which replaces one small file.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError

from contracts.errors import UserError
from feature_repo.materialize import history_length_of
from feature_repo.services import register_service
from models.ranker.spec import GOLDEN_FILE, RankerSpec, parity_gap
from serving.champion import champion_name
from serving.config import ServingConfig, TritonConfig
from serving.model_repository import publish_model
from serving.rankers import install_ranker, service_name
from serving.routes import Arm, Plan, Routes, previous_routes, read_routes, write_routes
from serving.triton_client import TritonControl, servers
from serving.triton_server import TritonServer

PARITY_TOLERANCE: Final = 1e-3
"""Largest difference to the golden rows; float32 sums in another order stay far below it."""
_LOOPBACK: Final = ("127.0.0.1", "localhost")


def deploy_rankers(arms: dict[str, Path], config: ServingConfig, *, state: Path) -> dict[str, float]:
    """Puts one ranker per arm into service.

    Where Triton is not running on this machine, one is started for the checks and stopped again; the next start of the
    local stack loads what the routes name.

    Args:
        arms: arm -> ranker artifact.
        config: serving settings; the feature store is taken from beside `state`.
        state: folder of the model repository and the routes.

    Returns:
        `revision` of the routes, number of `arms`, and `parity_max_difference`.

    Raises:
        UserError: an artifact is not a ranker, its embedding space is not the feature store's, the shares do not fit
            the arms, or Triton is not there.
        RuntimeError: Triton answers the golden rows differently; the routes stay as they were.
    """
    config = config.at(state)
    shares = _shares(arms, config)
    specs = {arm: RankerSpec.read(artifact) for arm, artifact in arms.items()}
    plan = _plan({arm: Arm(model=spec.model_name, share=shares[arm]) for arm, spec in specs.items()}, config)
    for artifact in arms.values():
        put_in_place(artifact, config)
    with triton_control(config) as control:
        gaps = [load_and_check(spec, control, config.rankers) for spec in specs.values()]
        routes = write_routes(state, plan, note="deploy")
        unload_retired(control, state)
    return {"revision": routes.revision, "arms": len(arms), "parity_max_difference": max(gaps)}


def rollback(config: ServingConfig, *, state: Path) -> Routes:
    """Puts the previous routes back into effect, once their models are loaded and answer their golden rows.

    Raises:
        UserError: there are no earlier routes, or Triton is not there.
        RuntimeError: a previous model no longer answers as it did; the routes stay as they were.
    """
    config = config.at(state)
    previous = previous_routes(state)
    with triton_control(config) as control:
        for model in sorted(previous.models):
            load_and_check(RankerSpec.read(config.rankers / model), control, config.rankers)
    return write_routes(state, previous.plan, note=f"rollback to revision {previous.revision}")


def load_routed(config: ServingConfig) -> Routes:
    """Loads every model that the routes name into a running Triton (after its restart).

    Raises:
        UserError: nothing was deployed.
        RuntimeError: a model does not answer as it should.
    """
    routes = read_routes(config.state)
    with closing(TritonControl(config.triton)) as control:
        for model in sorted(routes.models):
            load_and_check(RankerSpec.read(config.rankers / model), control, config.rankers)
    return routes


@contextmanager
def triton_control(config: ServingConfig) -> Iterator[TritonControl]:
    """Control of the running Triton, or of one started for the time being.

    Raises:
        UserError: there is none and none can be started here.
    """
    with ExitStack() as stack:
        control = stack.enter_context(closing(TritonControl(config.triton)))
        if not control.is_live():
            _require_local(config.triton)
            stack.enter_context(TritonServer(config.models, config.triton, scratch=config.state / "triton"))
            # A fresh channel: the first one has seen a dead server, and would wait before it tries again.
            control = stack.enter_context(closing(TritonControl(config.triton)))
        yield control


def _require_local(triton: TritonConfig) -> None:
    if triton.addresses or triton.host not in _LOOPBACK:
        raise UserError(
            f"no Triton answers at {', '.join(servers(triton))}; start it, or correct serving.triton.host and "
            "grpc_port (or addresses)."
        )


def _shares(arms: dict[str, Path], config: ServingConfig) -> dict[str, float]:
    shares = config.shares or {arm: 1 / len(arms) for arm in arms}
    if set(shares) != set(arms) or abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(
            f"serving.shares = {shares} must give each of the arms {', '.join(arms)} a share, and sum to 1."
        )
    return shares


def _plan(arms: dict[str, Arm], config: ServingConfig) -> Plan:
    try:
        return Plan(
            experiment=config.experiment,
            salt=config.salt,
            arms=arms,
            layers=config.layers,
            holdout=config.holdout,
            champion=champion_name(config.state),
        )
    except ValidationError as error:
        raise UserError(f"serving: {error.errors()[0]['msg']}") from error


def put_in_place(artifact: Path, config: ServingConfig) -> RankerSpec:
    """Makes a ranker ready to be loaded; nothing is served before that.

    Raises:
        UserError: the artifact is not a ranker, or the feature store does not hold what it reads.
    """
    spec = install_ranker(artifact, config.rankers)
    if spec.reach > (kept := history_length_of(config.feature_store)):
        raise UserError(
            f"{spec.model_name} reads {spec.reach} behaviours of a user, the feature store in {config.feature_store} "
            f"keeps {kept}; materialize with a larger features.history_length, or train with a smaller one."
        )
    register_service(
        config.feature_store,
        service_name(spec),
        space=spec.space,
        description=f"Features of ranker {spec.version}.",
        dim=spec.embedding_dim,
    )
    return publish_model(artifact, config.models, config.triton)


def load_and_check(spec: RankerSpec, control: TritonControl, rankers: Path) -> float:
    """Loads a model and returns its largest difference to the golden rows, sent one by one as requests come."""
    control.load(spec.model_name)
    with np.load(rankers / spec.model_name / GOLDEN_FILE, allow_pickle=False) as golden:
        feed = {tensor.name: golden[f"input_{tensor.name}"] for tensor in spec.inputs}
        expected = {tensor.name: golden[f"output_{tensor.name}"] for tensor in spec.outputs}
    gap = 0.0
    for row in range(len(next(iter(feed.values())))):
        one = {name: values[row : row + 1] for name, values in feed.items()}
        for found in control.run(spec.model_name, one, tuple(expected)):
            # Not max(): it would lose a NaN.
            gap = float(
                np.max([gap, *(parity_gap(found[name], values[row : row + 1]) for name, values in expected.items())])
            )
    if not gap <= PARITY_TOLERANCE:
        raise RuntimeError(
            f"{spec.model_name} in Triton differs from its golden rows by {gap:.2e}, more than {PARITY_TOLERANCE:.0e}; "
            "the routes were not changed."
        )
    return gap


def unload_retired(control: TritonControl, state: Path) -> None:
    """Keeps the current models and the previous ones, which a rollback needs at once."""
    kept = read_routes(state).models
    # The first deployment has nothing before it.
    with suppress(UserError):
        kept |= previous_routes(state).models
    for model in control.loaded() - kept:
        control.unload(model)
