"""Recurring runs. Kubeflow cannot change one, so a changed schedule is a new one that replaces the old."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.cluster.cluster_client import connect_to_cluster
from pipelines.cluster.cron_expression import require_cron
from pipelines.cluster.patience import Patience
from pipelines.cluster.refusals import explain_cluster_errors
from pipelines.cluster.schedule_plan import (
    ScheduleChange,
    WantedSchedule,
    is_enabled,
    list_differences,
    plan_schedule,
)
from pipelines.cluster.submit_run import (
    CALLING,
    FINAL_STATES,
    find_or_create_experiment,
    find_or_upload_version,
    find_version,
    iterate_pages,
)
from pipelines.compiled_package import check_arguments, read_package

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
    """Ids of the older ones of this name: disabled, and deleted unless a run of theirs has just begun."""
    is_waiting: bool = False
    """The cluster holds another schedule of this name, a run of which is under way; the next call replaces
    it."""


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

    A schedule of the same content is left alone. One of other content is replaced once it is idle: first the
    new one is made, then the old one disabled and deleted. Whatever fails on the way, the same call once more
    goes on from there.

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
    require_cron(cron)
    compiled_package = read_package(package)
    check_arguments(compiled_package, arguments)
    wanted = WantedSchedule(
        name=schedule_name,
        package=compiled_package,
        arguments=dict(arguments),
        cron=cron,
        pipeline_name=pipeline_name,
    )
    client = connect_to_cluster(
        host, namespace=namespace, patience=patience, oldest_backend=compiled_package.oldest_backend
    )
    with explain_cluster_errors("schedule the pipeline", host=host):
        experiment_id = find_or_create_experiment(client, experiment, namespace=namespace, patience=patience)
        recurring_runs = RecurringRuns(client, experiment_id, namespace, patience)
        change = recurring_runs.plan(wanted)
        recurring_run_id = recurring_runs.carry_out(change, wanted)
    return Schedule(
        recurring_run_id=recurring_run_id,
        url=f"{host.rstrip('/')}/#/recurringrun/details/{recurring_run_id}",
        is_new=change.action in {"make", "replace"},
        replaced=() if change.action == "wait" else tuple(run.recurring_run_id for run in change.surplus),
        is_waiting=change.action == "wait",
    )


@dataclass(frozen=True)
class RecurringRuns:
    """The recurring runs of an experiment."""

    client: Any
    experiment_id: str | None
    """None where the experiment is not there, and so nothing is in it."""
    namespace: str | None
    patience: Patience

    def list_all(self) -> list[Any]:
        """All of them."""
        return self.patience.read(lambda: list(self._iterate()))

    def plan(self, wanted: WantedSchedule, found: list[Any] | None = None) -> ScheduleChange:
        """Finds out what must be done; reads only.

        Args:
            wanted: the schedule.
            found: all recurring runs, where they were listed before.
        """
        of_name = [
            run for run in (self.list_all() if found is None else found) if run.display_name == wanted.name
        ]
        return plan_schedule(wanted, of_name, version_id=self._find_version(wanted), is_busy=self.is_busy)

    def carry_out(self, change: ScheduleChange, wanted: WantedSchedule) -> str:
        """Does what a plan says.

        Returns:
            Id of the recurring run that holds now.
        """
        kept = change.kept
        if change.action in {"make", "replace"}:
            # The new one first: a failure here must not leave the pipeline without any schedule.
            kept = self._make(wanted)
            if is_enabled(kept) != wanted.is_enabled:
                self.set_enabled(kept.recurring_run_id, wanted.is_enabled)
        elif change.action in {"enable", "disable"}:
            for run in change.surplus if kept is None else (kept,):
                self.set_enabled(run.recurring_run_id, change.action == "enable")
        if kept is None:
            # One of other content has a run under way; a later call replaces it.
            return str(change.surplus[0].recurring_run_id)
        for run in change.surplus:
            self.retire(run.recurring_run_id)
        return str(kept.recurring_run_id)

    def retire(self, recurring_run_id: str) -> None:
        """Disables one, and deletes it if it is idle; else a later call does."""
        # Disabled first: else it might begin a run between the look and the deletion, which would end it.
        self.set_enabled(recurring_run_id, False)
        if not self.is_busy(recurring_run_id):
            self._ignore_missing(self.client.delete_recurring_run, recurring_run_id)

    def set_enabled(self, recurring_run_id: str, is_wanted: bool) -> None:
        """Enables or disables one."""
        change = self.client.enable_recurring_run if is_wanted else self.client.disable_recurring_run
        self._ignore_missing(change, recurring_run_id)

    def is_busy(self, recurring_run_id: str) -> bool:
        """Whether it has a run under way, which its deletion would end."""

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

    def _make(self, wanted: WantedSchedule) -> Any:
        version_arguments = find_or_upload_version(
            self.client,
            wanted.package,
            pipeline_name=wanted.pipeline_name,
            namespace=self.namespace,
            patience=self.patience,
        )
        version_id = version_arguments.get("version_id")

        def find_equal() -> Any:
            return next(
                (
                    run
                    for run in self._iterate()
                    if run.display_name == wanted.name and not list_differences(wanted, run, version_id)
                ),
                None,
            )

        return self.patience.write(
            lambda: self.client.create_recurring_run(
                self.experiment_id,
                wanted.name,
                description=wanted.mark,
                cron_expression=wanted.cron,
                max_concurrency=wanted.max_concurrency,
                no_catchup=not wanted.catch_up,
                params=dict(wanted.arguments),
                enabled=wanted.is_enabled,
                **version_arguments,
            ),
            find=find_equal,
        )

    def _find_version(self, wanted: WantedSchedule) -> str | None:
        if wanted.pipeline_name is None:
            return None
        pipeline_name = wanted.pipeline_name
        return self.patience.read(
            lambda: find_version(self.client, wanted.package, pipeline_name, namespace=self.namespace)
        )

    def _iterate(self) -> Iterator[Any]:
        if self.experiment_id is None:
            return iter(())
        return iterate_pages(
            lambda page_token: self.client.list_recurring_runs(
                page_token=page_token, page_size=_PAGE_SIZE, experiment_id=self.experiment_id
            ),
            "recurring_runs",
        )

    def _ignore_missing(self, change: Callable[[str], Any], recurring_run_id: str) -> None:
        """Makes a change that may be made twice; one that is gone needs it no more."""
        from kfp_server_api import ApiException  # type: ignore[import-untyped]

        try:
            self.patience.read(lambda: change(recurring_run_id))
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
