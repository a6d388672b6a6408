"""Schedules as a file in git: which pipeline runs when, with which configuration."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import Field, ValidationError, field_validator

from contracts.config import Config
from contracts.config_text import KeyPath, read_yaml_file
from contracts.errors import UserError
from pipelines.cluster.cluster_settings import list_setting_problems
from pipelines.cluster.cron_expression import require_cron
from pipelines.cluster.schedule_plan import WantedSchedule
from pipelines.compiled_package import check_arguments, read_package
from pipelines.config import load_config
from pipelines.run_arguments import build_cluster_arguments

MADE_BY_A_FILE: Final = "made by `reaseq schedules apply`, owner "
"""So the description of a schedule of any file begins; the owner follows."""
_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,60}$"


class ScheduleEntry(Config):
    """One schedule."""

    name: str = Field(pattern=_NAME)
    """Its name in the UI; one of a kind in the file."""
    pipeline: str
    """Which pipeline: `refresh_users`."""
    config: Path
    """Run configuration, relative to this file."""
    cron: str
    """Six fields, seconds first, in UTC."""
    enabled: bool = True
    """A disabled one stays on the cluster and starts nothing."""
    concurrency: int = Field(default=1, ge=1, le=10)
    """Runs of it at a time. Our pipelines share a workspace, so 1 is right for them."""
    catch_up: bool = False
    """Whether to make up for missed runs. Each of ours works up to its own cut-off, so none need be."""
    parameters: dict[str, Any] = {}
    """Parameters of the pipeline that differ from what the configuration gives: `{act: true}`."""

    @field_validator("cron")
    @classmethod
    def _require_cron(cls, cron: str) -> str:
        require_cron(cron)
        return cron


class ScheduleFile(Config):
    """The schedules of an experiment that one file answers for."""

    owner: str = Field(pattern=_NAME)
    """Whose schedules these are. It stands in their descriptions: what bears it and is no longer in the file
    is deleted, and nothing else is."""
    experiment: str = Field(default="reaseq", min_length=1)
    """Experiment to run in."""
    schedules: tuple[ScheduleEntry, ...]
    """The schedules; none deletes all of this owner."""

    @property
    def mark(self) -> str:
        """The description of a schedule that this file made."""
        return f"{MADE_BY_A_FILE}{self.owner}"


_KEYS: Final = ", ".join(ScheduleFile.model_fields)


class ReadSchedules(NamedTuple):
    """A file that was read and checked."""

    file: ScheduleFile
    wanted: list[WantedSchedule]


def read_schedule_file(path: Path, *, packages_folder: Path) -> ReadSchedules:
    """Reads a file of schedules, and all that it names.

    Args:
        path: the YAML file.
        packages_folder: compiled packages, one for each pipeline.

    Raises:
        UserError: it is not such a file; all faults are listed, with their lines.
    """
    tree, lines = read_yaml_file(path)
    if not isinstance(tree or {}, dict):
        raise UserError(_explain(path, [f"it holds a {type(tree).__name__}; it must have the keys {_KEYS}"]))
    try:
        schedule_file = ScheduleFile.model_validate(tree or {})
    except ValidationError as error:
        raise UserError(_explain(path, _list_faults(error, lines))) from None
    faults = list(_find_doubled_names(schedule_file, lines))
    wanted: list[WantedSchedule] = []
    for number, entry in enumerate(schedule_file.schedules):
        try:
            wanted.append(_build_schedule(entry, schedule_file.mark, path.parent, packages_folder))
        except UserError as error:
            faults.append(f"{_locate(('schedules', str(number)), lines)}{entry.name}: {error}")
    if faults:
        raise UserError(_explain(path, faults))
    return ReadSchedules(schedule_file, wanted)


def _build_schedule(entry: ScheduleEntry, mark: str, folder: Path, packages_folder: Path) -> WantedSchedule:
    known = sorted(path.stem for path in packages_folder.glob("*.yaml"))
    if entry.pipeline not in known:
        raise UserError(
            f"pipeline '{entry.pipeline}' is none of {', '.join(known) or 'none'} in {packages_folder}"
        )
    package = read_package(packages_folder / f"{entry.pipeline}.yaml")
    config = load_config(folder / entry.config)
    choices = {"train": entry.parameters.get("act", False)}
    arguments = build_cluster_arguments(package.path, config, choices=choices) | entry.parameters
    check_arguments(package, arguments)
    if problems := list_setting_problems(config, package.parameters):
        raise UserError(f"{entry.config} cannot work in a pod: {'; '.join(problems)}")
    return WantedSchedule(
        name=entry.name,
        package=package,
        arguments=arguments,
        cron=entry.cron,
        pipeline_name=entry.pipeline.replace("_", "-"),
        is_enabled=entry.enabled,
        max_concurrency=entry.concurrency,
        catch_up=entry.catch_up,
        mark=mark,
    )


def _find_doubled_names(schedule_file: ScheduleFile, lines: Mapping[KeyPath, int]) -> Iterator[str]:
    names = [entry.name for entry in schedule_file.schedules]
    for number, name in enumerate(names):
        if name in names[:number]:
            place = _locate(("schedules", str(number)), lines)
            yield f"{place}name '{name}' stands twice; each schedule needs one of its own"


def _list_faults(error: ValidationError, lines: Mapping[KeyPath, int]) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False):
        place = tuple(map(str, fault["loc"]))
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "string_pattern_mismatch":
            message = f"'{fault['input']}' must be lowercase letters, digits and dashes, at most 61"
        if fault["type"] == "extra_forbidden":
            model = ScheduleEntry if len(place) > 1 else ScheduleFile
            message = f"unknown key; allowed: {', '.join(model.model_fields)}"
        yield f"{_locate(place, lines)}{'.'.join(place)}: {message}"


def _locate(place: KeyPath, lines: Mapping[KeyPath, int]) -> str:
    return f"line {lines[place]}: " if place in lines else ""


def _explain(path: Path, faults: Any) -> str:
    return "\n".join([f"'{path}' is no file of schedules:", *(f"  {fault}" for fault in faults)])
