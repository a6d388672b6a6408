"""Recurring runs. Kubeflow cannot change one, so a changed schedule is a new one that replaces the old."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import UserError
from pipelines.cluster.cluster_client import connect_to_cluster, explain_cluster_errors
from pipelines.cluster.patience import Patience
from pipelines.cluster.submit_run import (
    CALLING,
    FINAL_STATES,
    find_or_create_experiment,
    find_or_upload_version,
    iterate_pages,
)
from pipelines.compiled_package import check_arguments, read_package

_NUM_CRON_FIELDS = 6
_PAGE_SIZE = 100
_NOT_FOUND = 404


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A recurring run on the cluster."""

    recurring_run_id: str
    url: str
    """Its page in the Pipelines UI."""
    is_new: bool
    """False where the cluster held this very schedule already."""
    replaced: tuple[str, ...] = ()
    """Ids of the older recurring runs of this name that were deleted."""
    running_out: tuple[str, ...] = ()
    """Ids of older ones that are disabled, but have a run under way; deleting them would end it. The next
    call deletes them."""


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
    patience: Patience = CALLING,
) -> Schedule:
    """Makes the cluster run a package again and again under a name, and nothing else under that name.

    A schedule of the same content is left alone. One of other content is replaced: first the new one is made,
    then the old one disabled, then deleted once it is idle. Whatever fails on the way, the same call once
    more goes on from there.

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
        patience: With what failing calls are repeated.

    Raises:
        UserError: wrong cron expression, package, arguments, host or credentials; or the cluster failed for
            too long.
    """
    if len(cron.split()) != _NUM_CRON_FIELDS:
        raise UserError(
            f"cron '{cron}' must have six fields, seconds first, for example '0 30 3 * * *' (03:30 UTC)."
        )
    compiled_package = read_package(package)
    check_arguments(compiled_package, arguments)
    client = connect_to_cluster(
        host, namespace=namespace, patience=patience, oldest_backend=compiled_package.oldest_backend
    )
    with explain_cluster_errors("schedule the pipeline", host=host):
        version_arguments = find_or_upload_version(
            client, compiled_package, pipeline_name=pipeline_name, namespace=namespace, patience=patience
        )
        experiment_id = find_or_create_experiment(client, experiment, namespace=namespace, patience=patience)
        wanted = _Content(cron, dict(arguments), version_arguments.get("version_id"), compiled_package.spec)
        recurring_runs = _RecurringRuns(client, experiment_id, schedule_name, patience)
        before = {run.recurring_run_id for run in recurring_runs.list_all()}
        # The new one first: a failure here must not leave the pipeline without any schedule.
        kept = patience.write(
            lambda: client.create_recurring_run(
                experiment_id,
                schedule_name,
                cron_expression=cron,
                no_catchup=True,
                params=dict(arguments),
                **version_arguments,
            ),
            find=lambda: recurring_runs.find_equal(wanted),
        )
        if str(kept.mode) == "DISABLE":
            patience.read(lambda: client.enable_recurring_run(kept.recurring_run_id))
        replaced, running_out = recurring_runs.retire_others(kept.recurring_run_id)
    return Schedule(
        recurring_run_id=kept.recurring_run_id,
        url=f"{host.rstrip('/')}/#/recurringrun/details/{kept.recurring_run_id}",
        is_new=kept.recurring_run_id not in before,
        replaced=replaced,
        running_out=running_out,
    )


@dataclass(frozen=True)
class _Content:
    """What makes a schedule the one that is wanted."""

    cron: str
    arguments: dict[str, Any]
    version_id: str | None
    spec: Mapping[str, Any]

    def is_held_by(self, recurring_run: Any) -> bool:
        """Whether a recurring run on the cluster runs the same, at the same times."""
        trigger = recurring_run.trigger and recurring_run.trigger.cron_schedule
        reference = recurring_run.pipeline_version_reference
        parameters = (recurring_run.runtime_config and recurring_run.runtime_config.parameters) or {}
        is_same_code = (
            reference is not None and reference.pipeline_version_id == self.version_id
            if self.version_id
            else _read_spec(recurring_run.pipeline_spec) == self.spec
        )
        is_same_mode = recurring_run.no_catchup is True and int(recurring_run.max_concurrency or 0) == 1
        is_same_time = trigger is not None and trigger.cron == self.cron
        return is_same_code and is_same_mode and is_same_time and parameters == self.arguments


def _read_spec(spec: Any) -> Any:
    return spec.get("pipeline_spec", spec) if isinstance(spec, dict) else None


@dataclass(frozen=True)
class _RecurringRuns:
    """The recurring runs of one name in one experiment."""

    client: Any
    experiment_id: str
    name: str
    patience: Patience

    def list_all(self) -> list[Any]:
        """All of them."""
        return self.patience.read(lambda: list(self._iterate()))

    def find_equal(self, wanted: _Content) -> Any:
        """One of the wanted content, an enabled one before a disabled one."""
        equal = [run for run in self._iterate() if wanted.is_held_by(run)]
        return min(equal, key=lambda run: str(run.mode) == "DISABLE", default=None)

    def retire_others(self, kept_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Disables all but one, and deletes those that are idle: ids of the deleted, ids of the others."""
        other_ids = [run.recurring_run_id for run in self.list_all() if run.recurring_run_id != kept_id]
        for other_id in other_ids:
            self._ignore_missing(self.client.disable_recurring_run, other_id)
        busy_ids = tuple(other_id for other_id in other_ids if self._has_run_under_way(other_id))
        idle_ids = tuple(other_id for other_id in other_ids if other_id not in busy_ids)
        for idle_id in idle_ids:
            self._ignore_missing(self.client.delete_recurring_run, idle_id)
        return idle_ids, busy_ids

    def _iterate(self) -> Iterator[Any]:
        pages = iterate_pages(
            lambda page_token: self.client.list_recurring_runs(
                page_token=page_token, page_size=_PAGE_SIZE, experiment_id=self.experiment_id
            ),
            "recurring_runs",
        )
        return (run for run in pages if run.display_name == self.name)

    def _has_run_under_way(self, recurring_run_id: str) -> bool:
        def list_under_way() -> list[Any]:
            runs = iterate_pages(
                lambda page_token: self.client.list_runs(
                    page_token=page_token, page_size=_PAGE_SIZE, experiment_id=self.experiment_id
                ),
                "runs",
            )
            return [
                run
                for run in runs
                if run.recurring_run_id == recurring_run_id and str(run.state) not in FINAL_STATES
            ]

        return bool(self.patience.read(list_under_way))

    def _ignore_missing(self, change: Any, recurring_run_id: str) -> None:
        """Makes a change that may be made twice; one that is gone needs it no more."""
        from kfp_server_api import ApiException  # type: ignore[import-untyped]

        try:
            self.patience.read(lambda: change(recurring_run_id))
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
