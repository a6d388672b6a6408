"""Recurring runs. Kubeflow cannot change one, so a changed schedule is a new one that replaces the old."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import UserError
from pipelines.cluster import cluster_errors, connect
from pipelines.package import check_arguments, read_package
from pipelines.submit import find_or_upload

_NUM_CRON_FIELDS = 6
_PAGE_SIZE = 100


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A recurring run on the cluster."""

    recurring_run_id: str
    url: str
    """Its page in the Pipelines UI."""
    replaced: tuple[str, ...]
    """Ids of the older recurring runs of this name that it replaced."""


def schedule(
    package: Path,
    arguments: Mapping[str, Any],
    *,
    host: str,
    namespace: str | None = None,
    experiment: str,
    schedule_name: str,
    cron: str,
    pipeline_name: str | None = None,
) -> Schedule:
    """Runs a package again and again, replacing any schedule of the same name in the experiment.

    Runs never overlap, and runs missed while the cluster was down are not caught up: every pipeline here works up to
    its own cut-off, so the next run covers them.

    Args:
        package: Compiled pipeline YAML.
        arguments: Values of the pipeline's parameters.
        host: Base address of the Pipelines API, with its scheme.
        namespace: The profile's namespace on a multi-user cluster.
        experiment: Experiment to run in; made where there is none.
        schedule_name: Name of the recurring run.
        cron: Six fields, seconds first, in UTC: "0 30 3 * * *" is half past three each night.
        pipeline_name: Name to upload under; None keeps the package inside the schedule.

    Raises:
        UserError: wrong cron expression, package, arguments, host or credentials.
    """
    if len(cron.split()) != _NUM_CRON_FIELDS:
        raise UserError(f"cron '{cron}' must have six fields, seconds first, for example '0 30 3 * * *' (03:30 UTC).")
    checked = read_package(package)
    check_arguments(checked, arguments)
    client = connect(host, namespace=namespace)
    with cluster_errors("schedule the pipeline", host=host):
        source = find_or_upload(client, checked, pipeline_name=pipeline_name, namespace=namespace)
        experiment_id = client.create_experiment(experiment, namespace=namespace).experiment_id
        old_ids = tuple(_ids_of(client, schedule_name, experiment_id=experiment_id))
        # The new one first: a failure here must not leave the pipeline without any schedule.
        created = client.create_recurring_run(
            experiment_id, schedule_name, cron_expression=cron, no_catchup=True, params=dict(arguments), **source
        )
        for old_id in old_ids:
            client.delete_recurring_run(old_id)
    url = f"{host.rstrip('/')}/#/recurringrun/details/{created.recurring_run_id}"
    return Schedule(recurring_run_id=created.recurring_run_id, url=url, replaced=old_ids)


def _ids_of(client: Any, name: str, *, experiment_id: str) -> Iterator[str]:
    token = ""
    while True:
        page = client.list_recurring_runs(page_token=token, page_size=_PAGE_SIZE, experiment_id=experiment_id)
        for run in page.recurring_runs or ():
            if run.display_name == name:
                yield run.recurring_run_id
        token = page.next_page_token
        if not token:
            return
