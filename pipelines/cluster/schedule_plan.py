"""What must be done so that a cluster holds a schedule as it is wanted. Nothing here calls a cluster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.compiled_package import CompiledPackage

Action = Literal["keep", "make", "replace", "wait", "enable", "disable", "tidy", "delete"]


@dataclass(frozen=True, kw_only=True)
class WantedSchedule:
    """A schedule as somebody wants it."""

    name: str
    package: CompiledPackage
    arguments: Mapping[str, Any]
    """Values of the pipeline's parameters."""
    cron: str
    """Six fields, seconds first, in UTC."""
    pipeline_name: str | None
    """Name to upload under; None keeps the package inside the schedule."""
    is_enabled: bool = True
    max_concurrency: int = 1
    """Runs of it at a time."""
    catch_up: bool = False
    """Whether runs are made up for that were missed while the cluster was down or the schedule disabled."""
    mark: str | None = None
    """Goes into the description and tells whose it is; None where that does not matter."""


@dataclass(frozen=True, kw_only=True)
class ScheduleChange:
    """What is to be done about the schedules of one name."""

    name: str
    action: Action
    """`keep` changes nothing; `replace` makes a new one and deletes the old; `wait` would, but a run of the
    old one is under way; `tidy` deletes twins that a broken call left; `delete` one that nobody wants."""
    reasons: tuple[str, ...] = ()
    """What differs."""
    kept: Any = None
    """The recurring run that stays."""
    surplus: tuple[Any, ...] = ()
    """Those that go."""


def plan_schedule(
    wanted: WantedSchedule,
    found: Sequence[Any],
    *,
    version_id: str | None,
    is_busy: Callable[[str], bool],
) -> ScheduleChange:
    """Compares what is wanted with the recurring runs of its name.

    Kubeflow cannot change a recurring run, only enable, disable and delete it, and a deletion ends its run.

    Args:
        wanted: the schedule.
        found: the recurring runs of that name.
        version_id: the uploaded version that holds the package; None where it is not uploaded.
        is_busy: whether a recurring run has a run under way.
    """
    equal = [run for run in found if not list_differences(wanted, run, version_id)]
    # Of twins the one that needs no further call.
    kept = min(equal, key=lambda run: is_enabled(run) != wanted.is_enabled, default=None)
    others = tuple(run for run in found if run is not kept)
    if kept is None:
        reasons = tuple(list_differences(wanted, found[0], version_id)) if found else ()
        if not found:
            return ScheduleChange(name=wanted.name, action="make")
        if not any(is_busy(run.recurring_run_id) for run in found):
            return ScheduleChange(name=wanted.name, action="replace", reasons=reasons, surplus=others)
        if not wanted.is_enabled and any(is_enabled(run) for run in found):
            # To disable ends no run, and the rest can wait.
            return ScheduleChange(name=wanted.name, action="disable", reasons=reasons, surplus=others)
        return ScheduleChange(name=wanted.name, action="wait", reasons=reasons, surplus=others)
    action: Action = "tidy" if others else "keep"
    if is_enabled(kept) != wanted.is_enabled:
        action = "enable" if wanted.is_enabled else "disable"
    return ScheduleChange(name=wanted.name, action=action, kept=kept, surplus=others)


def is_enabled(recurring_run: Any) -> bool:
    """Whether a recurring run starts runs."""
    return str(recurring_run.mode) != "DISABLE"


def list_differences(wanted: WantedSchedule, recurring_run: Any, version_id: str | None) -> list[str]:
    """In what a recurring run differs from what is wanted, but for being enabled."""
    return list(_iterate_differences(wanted, recurring_run, version_id))


def _iterate_differences(wanted: WantedSchedule, recurring_run: Any, version_id: str | None) -> Iterator[str]:
    trigger = recurring_run.trigger and recurring_run.trigger.cron_schedule
    if (cron := trigger and trigger.cron) != wanted.cron:
        yield f"cron '{cron}' -> '{wanted.cron}'"
    if not _holds_package(wanted, recurring_run, version_id):
        yield f"package -> version {wanted.package.version}"
    parameters = (recurring_run.runtime_config and recurring_run.runtime_config.parameters) or {}
    if parameters != dict(wanted.arguments):
        names = sorted({*parameters, *wanted.arguments})
        changed = [n for n in names if parameters.get(n, ...) != wanted.arguments.get(n, ...)]
        yield f"parameters {', '.join(changed)}"
    concurrency = int(recurring_run.max_concurrency or 0)
    if concurrency != wanted.max_concurrency:
        yield f"concurrency {concurrency} -> {wanted.max_concurrency}"
    if (recurring_run.no_catchup is not True) != wanted.catch_up:
        yield f"catch_up -> {str(wanted.catch_up).lower()}"
    if wanted.mark is not None and recurring_run.description != wanted.mark:
        yield "it was made by hand, and becomes this file's"


def _holds_package(wanted: WantedSchedule, recurring_run: Any, version_id: str | None) -> bool:
    if wanted.pipeline_name is None:
        spec = recurring_run.pipeline_spec
        return bool(isinstance(spec, dict) and spec.get("pipeline_spec", spec) == wanted.package.spec)
    reference = recurring_run.pipeline_version_reference
    return bool(version_id and reference and reference.pipeline_version_id == version_id)
