"""What `reaseq experiment status` prints."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from components.experiment_progress import ExperimentProgress
    from pipelines.config import RunConfig
    from serving.experiments.experiment_record import ExperimentRecord


def print_status(run_config: "RunConfig") -> None:
    """Prints the running experiment's progress, split and power, and no lift."""
    from serving.experiments.experiment_record import list_records, read_running_record

    state = run_config.home / "serving"
    record = read_running_record(state)
    if record is None:
        print("no experiment runs that was started with `reaseq experiment start`")
        if former := list_records(state):
            outcome = former[-1].outcome or "the routes were changed since"
            print(f"the last one was {former[-1].experiment_id}: {outcome}")
        return
    print(record)
    # Its reports take seconds to import.
    from components.experiment_progress import measure_progress

    progress = measure_progress(
        record,
        run_config.monitoring,
        state=state,
        repeats=run_config.serving.event_log.repeats,
        items=_read_catalogue(run_config),
    )
    if progress is None:
        print("nobody has seen it yet")
        return
    _print_progress(record, progress)
    _print_power(progress)
    if progress.interleaving is not None:
        _print_interleaving(progress)
    decides_early = run_config.monitoring.decide_by == "sequential" and not (
        record.is_aa or record.interleaving
    )
    if progress.is_complete:
        print("the planned time is over: `reaseq report` decides")
    elif decides_early:
        print(
            "before its time: no verdict here. `reaseq report` decides early only by what holds at any look"
        )
    else:
        print("before its time: no verdict")


def _read_catalogue(run_config: "RunConfig") -> "pl.DataFrame | None":
    """Its prices stand in for orders without one; before any run there is none."""
    from contracts.dataset import read_dataset
    from contracts.errors import UserError
    from reaseq.local_runs import find_artifact

    try:
        return read_dataset(find_artifact(run_config, "dataset")).items
    except UserError:
        return None


def _print_progress(record: "ExperimentRecord", progress: "ExperimentProgress") -> None:
    num_users = sum(progress.users.values())
    planned_users = "" if record.planned_users is None else f" of {record.planned_users:,}"
    days = f"{progress.days:.1f} of {record.planned_days:g} days"
    print(f"so far:       {days}, {num_users:,}{planned_users} users")
    split = ", ".join(
        f"{arm} {users:,} ({progress.intended.get(arm, 0):,.0f} intended)"
        for arm, users in progress.users.items()
    )
    verdict = "MISMATCH: no lift can be believed" if progress.is_mismatch else "as intended"
    print(f"sample ratio: {split}; p = {progress.sample_ratio_p:.3g}: {verdict}")


def _print_interleaving(progress: "ExperimentProgress") -> None:
    from monitoring.decision_obstacles import describe_preference

    told = progress.interleaving or {}
    detectable = told.get("detectable")
    sees = "" if detectable is None else f"; it could see a preference of {detectable:.1%} by now"
    print(f"shared pages: {told['clicks']:,} clicks of {told['users_who_clicked']:,} users{sees}")
    if progress.is_complete:
        print(f"result:       {describe_preference(told)}")


def _print_power(progress: "ExperimentProgress") -> None:
    from reaseq.run_summary import print_table

    if not progress.metrics:
        print("nobody has clicked or ordered yet")
        return
    arms = list(progress.metrics[0].detectable)
    rows = [
        (
            metric.metric,
            "-" if metric.control_value is None else f"{metric.control_value:.4g}",
            *("-" if (lift := metric.detectable[arm]) is None else f"{lift:.1%} and more" for arm in arms),
        )
        for metric in progress.metrics
    ]
    print_table(("metric", "control", *(f"{arm}: sees by now" for arm in arms)), rows)
