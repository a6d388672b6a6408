"""Tells how far the running experiment is: serving's record against what monitoring sees by now."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from components.experiment_progress import ExperimentProgress, measure_progress
from contracts.events.event_repeats import RepeatRuleConfig
from monitoring.config import MonitoringConfig
from monitoring.decision_obstacles import describe_preference
from serving.experiments.experiment_record import ExperimentRecord, list_records, read_running_record


def describe_status(
    config: MonitoringConfig, *, state: Path, repeats: RepeatRuleConfig, items: pl.DataFrame | None = None
) -> Iterator[str]:
    """Lines on progress, split and power. No lift: that is for the day that was planned.

    Args:
        config: monitoring's configuration.
        state: serving's folder.
        repeats: which events are one event that was sent again.
        items: the catalogue, for orders that came without a price.
    """
    record = read_running_record(state)
    if record is None:
        yield "no experiment runs that was started with `reaseq experiment start`"
        if former := list_records(state):
            outcome = former[-1].outcome or "the routes were changed since"
            yield f"the last one was {former[-1].experiment_id}: {outcome}"
        return
    yield str(record)
    progress = measure_progress(record, config, state=state, repeats=repeats, items=items)
    if progress is None:
        yield "nobody has seen it yet"
        return
    yield from _describe_progress(record, progress)
    yield from describe_power(progress)
    if progress.interleaving is not None:
        yield from _describe_interleaving(progress)
    decides_early = config.decide_by == "sequential" and not (record.is_aa or record.interleaving)
    if progress.is_complete:
        yield "the planned time is over: `reaseq report` decides"
    elif decides_early:
        yield "before its time: no verdict here. `reaseq report` decides early only by what holds at any look"
    else:
        yield "before its time: no verdict"


def _describe_progress(record: ExperimentRecord, progress: ExperimentProgress) -> Iterator[str]:
    num_users = sum(progress.users.values())
    planned_users = "" if record.planned_users is None else f" of {record.planned_users:,}"
    days = f"{progress.days:.1f} of {record.planned_days:g} days"
    yield f"so far:       {days}, {num_users:,}{planned_users} users"
    split = ", ".join(
        f"{arm} {users:,} ({progress.intended.get(arm, 0):,.0f} intended)"
        for arm, users in progress.users.items()
    )
    verdict = "MISMATCH: no lift can be believed" if progress.is_mismatch else "as intended"
    yield f"sample ratio: {split}; p = {progress.sample_ratio_p:.3g}: {verdict}"


def _describe_interleaving(progress: ExperimentProgress) -> Iterator[str]:
    told = progress.interleaving or {}
    detectable = told.get("detectable")
    sees = "" if detectable is None else f"; it could see a preference of {detectable:.1%} by now"
    yield f"shared pages: {told['clicks']:,} clicks of {told['users_who_clicked']:,} users{sees}"
    if progress.is_complete:
        yield f"result:       {describe_preference(told)}"


def describe_power(progress: ExperimentProgress) -> Iterator[str]:
    """A line for each metric: its value in the control, and the smallest lift that could be seen by now."""
    if not progress.metrics:
        yield "nobody has clicked or ordered yet"
    for metric in progress.metrics:
        value = "no value yet" if metric.control_value is None else f"{metric.control_value:.4g}"
        seen = ", ".join(
            f"{arm} sees {'nothing yet' if lift is None else f'{lift:.1%} and more'} by now"
            for arm, lift in metric.detectable.items()
        )
        yield f"{metric.metric}: control {value}; {seen}"
