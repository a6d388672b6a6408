"""Recurring runs. Kubeflow cannot change one, so a changed schedule is a new one that replaces the old."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import UserError
from pipelines.cluster.cluster_client import connect_to_cluster, explain_cluster_errors
from pipelines.cluster.submit_run import find_or_upload_version
from pipelines.compiled_package import check_arguments, read_package

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


def schedule_pipeline(
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

    Runs never overlap. Runs missed while the cluster was down are not caught up: every pipeline here works up
    to its own cut-off, so the next run covers them.

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
        raise UserError(
            f"cron '{cron}' must have six fields, seconds first, for example '0 30 3 * * *' (03:30 UTC)."
        )
    compiled_package = read_package(package)
    check_arguments(compiled_package, arguments)
    client = connect_to_cluster(host, namespace=namespace)
    with explain_cluster_errors("schedule the pipeline", host=host):
        version_arguments = find_or_upload_version(
            client, compiled_package, pipeline_name=pipeline_name, namespace=namespace
        )
        experiment_id = client.create_experiment(experiment, namespace=namespace).experiment_id
        old_ids = tuple(_list_recurring_run_ids(client, schedule_name, experiment_id=experiment_id))
        # The new one first: a failure here must not leave the pipeline without any schedule.
        new_run = client.create_recurring_run(
            experiment_id,
            schedule_name,
            cron_expression=cron,
            no_catchup=True,
            params=dict(arguments),
            **version_arguments,
        )
        for old_id in old_ids:
            client.delete_recurring_run(old_id)
    page_url = f"{host.rstrip('/')}/#/recurringrun/details/{new_run.recurring_run_id}"
    return Schedule(recurring_run_id=new_run.recurring_run_id, url=page_url, replaced=old_ids)


def _list_recurring_run_ids(client: Any, name: str, *, experiment_id: str) -> Iterator[str]:
    page_token = ""
    while True:
        page = client.list_recurring_runs(
            page_token=page_token, page_size=_PAGE_SIZE, experiment_id=experiment_id
        )
        for recurring_run in page.recurring_runs or ():
            if recurring_run.display_name == name:
                yield recurring_run.recurring_run_id
        page_token = page.next_page_token
        if not page_token:
            return
