"""Makes a cluster hold the schedules of a file, or says what that would take."""

from typing import Any

from contracts.errors import UserError
from pipelines.cluster.cluster_client import connect_to_cluster
from pipelines.cluster.patience import Patience
from pipelines.cluster.recurring_run import RecurringRuns
from pipelines.cluster.refusals import explain_cluster_errors
from pipelines.cluster.schedule_file import MADE_BY_A_FILE, ReadSchedules
from pipelines.cluster.schedule_plan import Action, ScheduleChange, is_enabled
from pipelines.cluster.submit_run import CALLING, find_experiment, find_or_create_experiment


def diff_schedules(
    schedules: ReadSchedules, *, host: str, namespace: str | None = None, patience: Patience = CALLING
) -> list[ScheduleChange]:
    """Says what `apply_schedules` would do, and changes nothing.

    Args:
        schedules: what is wanted.
        host: base address of the Pipelines API, with its scheme.
        namespace: the profile's namespace on a multi-user cluster.
        patience: with what failing calls are repeated.

    Raises:
        UserError: wrong host or credentials, or the cluster failed for too long.
    """
    client = _connect(schedules, host, namespace, patience)
    with explain_cluster_errors("compare the schedules", host=host):
        name = schedules.file.experiment
        experiment = patience.read(lambda: find_experiment(client, name, namespace=namespace))
        experiment_id = None if experiment is None else str(experiment.experiment_id)
        return _plan(schedules, RecurringRuns(client, experiment_id, namespace, patience))


def apply_schedules(
    schedules: ReadSchedules, *, host: str, namespace: str | None = None, patience: Patience = CALLING
) -> list[ScheduleChange]:
    """Makes, replaces, enables, disables and deletes schedules until the cluster holds those of the file.

    Where all is as wanted, nothing is written. A schedule with a run under way is neither replaced nor
    deleted: that would end the run. Whatever fails, the next call goes on from there.

    Args:
        schedules: what is wanted.
        host: base address of the Pipelines API, with its scheme.
        namespace: the profile's namespace on a multi-user cluster.
        patience: with what failing calls are repeated.

    Returns:
        What was done, or waits.

    Raises:
        UserError: wrong host or credentials, or the cluster failed for too long.
    """
    client = _connect(schedules, host, namespace, patience)
    with explain_cluster_errors("apply the schedules", host=host):
        experiment_id = find_or_create_experiment(
            client, schedules.file.experiment, namespace=namespace, patience=patience
        )
        recurring_runs = RecurringRuns(client, experiment_id, namespace, patience)
        changes = _plan(schedules, recurring_runs)
        wanted_by_name = {wanted.name: wanted for wanted in schedules.wanted}
        for change in changes:
            if change.name in wanted_by_name:
                recurring_runs.carry_out(change, wanted_by_name[change.name])
            elif change.action != "wait":
                for run in change.surplus:
                    recurring_runs.retire(run.recurring_run_id)
    return changes


def _connect(schedules: ReadSchedules, host: str, namespace: str | None, patience: Patience) -> Any:
    oldest_backend = max((wanted.package.oldest_backend for wanted in schedules.wanted), default=(2, 0))
    return connect_to_cluster(host, namespace=namespace, patience=patience, oldest_backend=oldest_backend)


def _plan(schedules: ReadSchedules, recurring_runs: RecurringRuns) -> list[ScheduleChange]:
    found = recurring_runs.list_all()
    _require_own(schedules, found)
    changes = [recurring_runs.plan(wanted, found) for wanted in schedules.wanted]
    names = {wanted.name for wanted in schedules.wanted}
    removed = [
        run for run in found if run.description == schedules.file.mark and run.display_name not in names
    ]
    return changes + [_plan_removal(run, recurring_runs) for run in removed]


def _require_own(schedules: ReadSchedules, found: list[Any]) -> None:
    """Refuses a name that another file holds: each would replace the other's schedule for ever."""
    names = {wanted.name for wanted in schedules.wanted}
    others = {
        run.display_name: (run.description or "").removeprefix(MADE_BY_A_FILE)
        for run in found
        if run.display_name in names
        and (run.description or "").startswith(MADE_BY_A_FILE)
        and run.description != schedules.file.mark
    }
    if others:
        listed = ", ".join(f"'{name}' of {owner}" for name, owner in sorted(others.items()))
        raise UserError(
            f"owner {schedules.file.owner} names schedules of another file's owner: {listed}. Choose other "
            "names; where the owner was renamed, apply once with the old owner and `schedules: []`"
        )


def _plan_removal(run: Any, recurring_runs: RecurringRuns) -> ScheduleChange:
    if not recurring_runs.is_busy(run.recurring_run_id):
        return ScheduleChange(name=run.display_name, action="delete", surplus=(run,))
    # It starts nothing more meanwhile, and the next call deletes it.
    action: Action = "disable" if is_enabled(run) else "wait"
    reason = "it is no longer in the file; a run of it is under way"
    return ScheduleChange(name=run.display_name, action=action, reasons=(reason,), surplus=(run,))
