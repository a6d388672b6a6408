"""How our pipelines fare on a cluster: the last run of each, and what is scheduled. Reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from contracts.errors import UserError
from pipelines.cluster.cluster_client import connect_to_cluster
from pipelines.cluster.patience import Patience
from pipelines.cluster.recurring_run import RecurringRuns
from pipelines.cluster.refusals import explain_cluster_errors
from pipelines.cluster.schedule_plan import is_enabled
from pipelines.cluster.submit_run import CALLING, find_experiment, find_pipeline

_PAGE_SIZE = 100


class LastRun(NamedTuple):
    """The newest run of a pipeline."""

    pipeline: str
    state: str
    """SUCCEEDED, FAILED, RUNNING ..."""
    created_at: datetime | None
    finished_at: datetime | None
    reason: str
    """Why it failed, as far as the backend says."""
    url: str


class ScheduleState(NamedTuple):
    """A recurring run."""

    name: str
    cron: str
    is_enabled: bool


class ClusterStatus(NamedTuple):
    """What a cluster tells."""

    last_runs: list[LastRun]
    schedules: list[ScheduleState]


def read_cluster_status(
    pipeline_names: Sequence[str],
    *,
    host: str,
    namespace: str | None,
    experiment: str,
    patience: Patience = CALLING,
) -> ClusterStatus:
    """Asks for the newest of our runs, and for the schedules.

    Args:
        pipeline_names: names that the pipelines were uploaded under; of others nothing is told.
        host: base address of the Pipelines API, with its scheme.
        namespace: the profile's namespace on a multi-user cluster.
        experiment: experiment that the runs are in.
        patience: with what failing calls are repeated.

    Raises:
        UserError: wrong host or credentials, no such experiment, or the cluster failed for too long.
    """
    client = connect_to_cluster(host, namespace=namespace, patience=patience)
    with explain_cluster_errors("read the status", host=host):
        found = patience.read(lambda: find_experiment(client, experiment, namespace=namespace))
        if found is None:
            raise UserError(f"{host} has no experiment '{experiment}'; nothing was submitted to it yet")
        names_by_id = patience.read(lambda: _find_pipelines(client, pipeline_names, namespace))
        experiment_id = found.experiment_id
        last_runs = patience.read(lambda: _find_last_runs(client, experiment_id, names_by_id, host))
        recurring_runs = RecurringRuns(client, experiment_id, namespace, patience).list_all()
    return ClusterStatus(last_runs, [_describe_schedule(run) for run in recurring_runs])


def _find_pipelines(client: Any, names: Sequence[str], namespace: str | None) -> dict[str, str]:
    pipelines = {name: find_pipeline(client, name, namespace=namespace) for name in names}
    return {pipeline.pipeline_id: name for name, pipeline in pipelines.items() if pipeline is not None}


def _find_last_runs(client: Any, experiment_id: str, names_by_id: dict[str, str], host: str) -> list[LastRun]:
    """Reads pages, the newest runs first, until each pipeline has one."""
    last_runs: dict[str, LastRun] = {}
    page_token = ""
    while len(last_runs) < len(names_by_id):
        page = client.list_runs(
            page_token=page_token,
            page_size=_PAGE_SIZE,
            sort_by="created_at desc",
            experiment_id=experiment_id,
        )
        for run in page.runs or ():
            reference = run.pipeline_version_reference
            name = names_by_id.get(reference.pipeline_id) if reference else None
            if name is not None and name not in last_runs:
                last_runs[name] = _describe_run(name, run, host)
        page_token = page.next_page_token
        if not page_token:
            break
    return list(last_runs.values())


def _describe_run(pipeline: str, run: Any, host: str) -> LastRun:
    return LastRun(
        pipeline=pipeline,
        state=str(run.state),
        created_at=run.created_at,
        finished_at=run.finished_at,
        reason=str(run.error.message) if run.error else "",
        url=f"{host.rstrip('/')}/#/runs/details/{run.run_id}",
    )


def _describe_schedule(recurring_run: Any) -> ScheduleState:
    trigger = recurring_run.trigger and recurring_run.trigger.cron_schedule
    cron = trigger.cron if trigger else "periodic"
    return ScheduleState(recurring_run.display_name, cron, is_enabled(recurring_run))
