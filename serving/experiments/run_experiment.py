"""Starts and stops an experiment: routes, record and audit log change together."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from contracts.errors import UserError
from models.ranker.inputs.ranker_spec import SPEC_FILE, RankerSpec
from serving.config import ServingConfig
from serving.deployment.deploy_rankers import (
    load_and_check_parity,
    open_triton_control,
    publish_ranker,
    retire_unused_models,
)
from serving.deployment.routes import Arm, ExperimentPlan, Routes, read_routes, write_routes
from serving.experiments.audit_log import append_audit_line
from serving.experiments.experiment_layers import CONTROL
from serving.experiments.experiment_record import (
    ExperimentRecord,
    list_records,
    read_running_record,
    write_record,
)

CHALLENGER: Final = "treatment"
"""The arm of an A/A test beside the control; the challenger of an interleaving."""
INTERLEAVED: Final = "interleaved"
"""The arm whose pages two rankers share, by team draft."""


def start_experiment(
    rankers: Mapping[str, str],
    config: ServingConfig,
    *,
    state: Path,
    shares: Mapping[str, float],
    planned_days: float,
    deciding_metric: str,
    started_by: str,
    planned_users: int | None = None,
    is_aa: bool = False,
    interleaving: bool = False,
    note: str = "",
) -> ExperimentRecord:
    """Routes the arms' shares, and writes down what is planned before anything is seen.

    The arms are drawn anew: who saw the winner of the last experiment must not all fall into one arm.

    Args:
        rankers: arm -> ranker: a folder, or the name of one that was deployed before. An arm that is routed
            now keeps its ranker unless it is named. Without any, the arms are those that are routed now.
        config: serving settings; the feature store is taken from beside `state`.
        state: folder of the model repository and the routes.
        shares: arm -> share of the users; the control takes what the others leave. Without any, equal shares.
        planned_days: how long it is meant to run.
        deciding_metric: the metric that will decide.
        started_by: who starts it.
        planned_users: how many users it is meant to see.
        is_aa: the control's ranker in both arms.
        interleaving: one challenger shares the pages of the arm `interleaved` with the control's ranker.
        note: why.

    Raises:
        UserError: an experiment runs already, a share is wrong, or a ranker is not there.
        RuntimeError: Triton answers the golden rows differently; the routes stay as they were.
    """
    running = read_running_record(state)
    if running is not None:
        raise UserError(f"there is one already: {running}. `reaseq experiment stop` ends it")
    config = config.in_folders(state)
    routes = read_routes(state)
    folders = _find_rankers(rankers, routes, config, is_aa=is_aa)
    models = {arm: RankerSpec.read(folder).model_name for arm, folder in folders.items()}
    _require_several_rankers(models, is_aa=is_aa)
    now = datetime.now(UTC)
    kind = "aa" if is_aa else "mix" if interleaving else "exp"
    record = ExperimentRecord(
        # Two in a second would share their name, and so their exposures.
        experiment_id=f"{kind}-{now:%Y%m%d-%H%M%S}-{now.microsecond:06d}",
        arms=_make_arms(models, shares, interleaving=interleaving),
        started_at=now,
        started_by=started_by,
        planned_days=planned_days,
        planned_users=planned_users,
        deciding_metric=deciding_metric,
        is_aa=is_aa,
        interleaving=interleaving,
        note=note,
    )
    plan = _make_plan(routes, record)
    _close_abandoned_records(state, routes)
    # First the record: routes that name one that is not there would stop every report.
    write_record(state, record)
    model_folders = {models[arm]: folder for arm, folder in folders.items()}
    try:
        new_routes = _route(plan, model_folders, routes, config, state=state, record=record)
    except BaseException as error:
        if read_routes(state).experiment_id != record.experiment_id:
            outcome = f"could not be started: {error}"
            close_record(state, record, closed_by=started_by, outcome=outcome, routes_before=routes.revision)
        raise
    append_audit_line(
        state,
        {
            "event": "experiment_started",
            "experiment": record.model_dump(mode="json"),
            "routes_before": routes.revision,
            "routes_after": new_routes.revision,
        },
    )
    return record


def stop_experiment(*, state: Path, keep: str, stopped_by: str, note: str = "") -> ExperimentRecord:
    """Ends the running experiment: one arm's ranker answers everybody.

    Args:
        state: folder of the routes.
        keep: the arm whose ranker stays. Another one than the control becomes the champion.
        stopped_by: who ends it.
        note: why.

    Raises:
        UserError: no experiment was started, or there is no such arm.
    """
    record = read_running_record(state)
    if record is None:
        raise UserError("no experiment runs that was started with `reaseq experiment start`")
    kept_models = {arm: record.arms[arm].model for arm in record.arms}
    if record.interleaving:
        kept_models = {
            CONTROL: record.arms[CONTROL].model,
            CHALLENGER: str(record.arms[INTERLEAVED].interleaved),
        }
    if keep not in kept_models:
        raise UserError(f"no arm '{keep}' to keep; the arms are {', '.join(kept_models)}")
    routes = read_routes(state)
    changes: dict[str, Any] = {"arms": {CONTROL: Arm(model=kept_models[keep], share=1.0)}}
    if keep != CONTROL and not record.is_aa:
        changes["champion"] = kept_models[keep]
    new_plan = routes.as_plan.model_copy(update=changes)
    note_of_routes = f"stop {record.experiment_id}: keep {keep}"
    new_routes = write_routes(state, new_plan, note=note_of_routes, after=routes.revision)
    return close_record(
        state,
        record,
        closed_by=stopped_by,
        outcome=f"kept {keep}{f': {note}' if note else ''}",
        routes_before=routes.revision,
        routes_after=new_routes.revision,
    )


def close_record(
    state: Path,
    record: ExperimentRecord,
    *,
    closed_by: str,
    outcome: str,
    routes_before: int | None = None,
    routes_after: int | None = None,
) -> ExperimentRecord:
    """Writes down how an experiment ended."""
    closed = record.model_copy(
        update={"ended_at": datetime.now(UTC), "ended_by": closed_by, "outcome": outcome}
    )
    write_record(state, closed)
    append_audit_line(
        state,
        {
            "event": "experiment_stopped",
            "experiment": closed.model_dump(mode="json"),
            "routes_before": routes_before,
            "routes_after": routes_after,
        },
    )
    return closed


def name_current_user() -> str:
    """Who runs this command, by the machine's account."""
    return os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid {os.getuid()}"


def _find_rankers(
    rankers: Mapping[str, str], routes: Routes, config: ServingConfig, *, is_aa: bool
) -> dict[str, Path]:
    """Arm -> folder of its ranker, control first."""
    if with_canary := [name for name, arm in routes.arms.items() if arm.canary is not None]:
        raise UserError(
            f"arm '{with_canary[0]}' has a canary; finish it (`reaseq canary --share 1` or `0`) first"
        )
    if CONTROL not in routes.arms and CONTROL not in rankers:
        raise UserError(f"no arm '{CONTROL}' is routed; name its ranker, as in --arm {CONTROL}=RANKER")
    chosen = {arm: _find_ranker(arm, ranker, config) for arm, ranker in rankers.items()}
    control = chosen.pop(CONTROL, None) or config.rankers_folder / routes.arms[CONTROL].model
    if is_aa:
        if chosen:
            raise UserError("an A/A test has the same ranker in both arms; leave --arm out")
        return {CONTROL: control, CHALLENGER: control}
    if not chosen:
        chosen = {
            name: config.rankers_folder / arm.model for name, arm in routes.arms.items() if name != CONTROL
        }
    if not chosen:
        raise UserError("only the control is routed; name a challenger, as in --arm treatment=RANKER")
    return {CONTROL: control, **chosen}


def _find_ranker(arm: str, ranker: str, config: ServingConfig) -> Path:
    """A folder, or a ranker that was deployed before."""
    for folder in (Path(ranker), config.rankers_folder / ranker):
        if (folder / SPEC_FILE).is_file():
            return folder
    deployed = sorted(path.parent.name for path in config.rankers_folder.glob(f"*/{SPEC_FILE}"))
    raise UserError(
        f"arm '{arm}': '{ranker}' is no folder of a ranker and none that was deployed; deployed were "
        f"{', '.join(deployed) or 'none'}"
    )


def _require_several_rankers(models: Mapping[str, str], *, is_aa: bool) -> None:
    if is_aa:
        return
    challengers_like_control = [
        arm for arm, model in models.items() if arm != CONTROL and model == models[CONTROL]
    ]
    if challengers_like_control:
        raise UserError(
            f"arm '{challengers_like_control[0]}' has the control's ranker, {models[CONTROL]}; "
            "use --aa for an A/A test"
        )


def _share_users(arms: list[str], shares: Mapping[str, float]) -> dict[str, float]:
    """Arm -> share; they sum to one."""
    if unknown := sorted(set(shares) - set(arms)):
        raise UserError(f"a share for '{unknown[0]}', but the arms are {', '.join(arms)}")
    if not shares:
        return {arm: 1 / len(arms) for arm in arms}
    missing = [arm for arm in arms if arm not in shares and arm != CONTROL]
    if missing:
        raise UserError(f"no share for '{missing[0]}'; give every arm one, or none for equal shares")
    arm_shares = {CONTROL: shares.get(CONTROL, 1 - sum(shares.values())), **shares}
    wrong = [f"{arm}={share:g}" for arm, share in arm_shares.items() if not 0 < share < 1]
    if wrong or abs(sum(arm_shares.values()) - 1) > 1e-6:
        told = ", ".join(f"{arm}={share:g}" for arm, share in arm_shares.items())
        raise UserError(
            f"the arms' shares must each lie between 0 and 1 and sum to 1; these are {told} "
            f"({sum(arm_shares.values()):g} in all)"
        )
    return {arm: arm_shares[arm] for arm in arms}


def _make_arms(
    models: Mapping[str, str], shares: Mapping[str, float], *, interleaving: bool
) -> dict[str, Arm]:
    if not interleaving:
        arm_shares = _share_users(list(models), shares)
        return {arm: Arm(model=model, share=arm_shares[arm]) for arm, model in models.items()}
    challengers = [model for arm, model in models.items() if arm != CONTROL]
    if len(challengers) != 1 or models[CONTROL] in challengers:
        raise UserError(
            f"an interleaving has one challenger, and another ranker than the control; not {models}"
        )
    arm_shares = _share_users([CONTROL, INTERLEAVED], shares)
    return {
        CONTROL: Arm(model=models[CONTROL], share=arm_shares[CONTROL]),
        INTERLEAVED: Arm(model=models[CONTROL], interleaved=challengers[0], share=arm_shares[INTERLEAVED]),
    }


def _make_plan(routes: Routes, record: ExperimentRecord) -> ExperimentPlan:
    changes = {"arms": record.arms, "salt": record.experiment_id}
    try:
        return ExperimentPlan.model_validate(routes.as_plan.model_dump() | changes)
    except ValidationError as error:
        raise UserError(f"these arms cannot be routed: {error.errors()[0]['msg']}") from error


def _route(
    plan: ExperimentPlan,
    model_folders: Mapping[str, Path],
    routes: Routes,
    config: ServingConfig,
    *,
    state: Path,
    record: ExperimentRecord,
) -> Routes:
    """Loads what does not answer yet, then switches."""
    note = f"start {record.experiment_id}"
    new_models = {model: folder for model, folder in model_folders.items() if model not in routes.model_names}
    if not new_models:
        return write_routes(state, plan, note=note, after=routes.revision, experiment_id=record.experiment_id)
    for folder in new_models.values():
        publish_ranker(folder, config)
    with open_triton_control(config) as triton_control:
        for model in new_models:
            load_and_check_parity(model, triton_control, config.rankers_folder)
        new_routes = write_routes(
            state, plan, note=note, after=routes.revision, experiment_id=record.experiment_id
        )
        retire_unused_models(triton_control, config)
    return new_routes


def _close_abandoned_records(state: Path, routes: Routes) -> None:
    """Experiments that another change of the routes ended."""
    for record in list_records(state):
        if record.ended_at is None:
            close_record(
                state,
                record,
                closed_by="a change of the routes",
                outcome=f"ended by a change of the routes; now {routes}",
            )
