"""The A/B lift report: click-through rate, orders and GMV per user by arm, with honest intervals."""

from pathlib import Path
from typing import Any, NamedTuple, get_args

import polars as pl
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.sdk.models import DashboardPanelPlot, PanelMetric
from evidently.sdk.panels import line_plot_panel, text_panel
from evidently.tests import gte

from contracts.artifacts import new_artifact, write_json
from contracts.digests import digest_file
from contracts.errors import UserError
from contracts.schema import Table
from contracts.tables import EXPOSURES, OUTCOMES
from monitoring.config import LiftMetric, MonitoringConfig
from monitoring.lift_metrics import RelativeLift, SampleRatio
from monitoring.statistics import (
    UNKNOWN,
    Estimate,
    Interval,
    absolute_lift,
    ratio_estimate,
    relative_lift,
    sample_ratio_p_value,
    value_interval,
)
from monitoring.workspace import add_snapshot, open_project

METRICS: dict[LiftMetric, tuple[str, str]] = {
    "ctr": ("clicks", "impressions"),
    "orders_per_user": ("orders", "users"),
    "gmv_per_user": ("gmv", "users"),
}
"""Metric -> (numerator, denominator), columns of `user_table`."""
assert set(METRICS) == set(get_args(LiftMetric))


class LiftRow(NamedTuple):
    """One metric of one arm; the lifts are against the control arm, unknown for the control itself."""

    arm: str
    metric: LiftMetric
    users: int
    value: Interval
    absolute: Interval
    relative: Interval


def report_lift(exposures: Path, outcomes: Path, config: MonitoringConfig, *, workspace: Path, out: Path) -> None:
    """Compares the arms of an experiment (tables EXPOSURES and OUTCOMES, Parquet; the user is the unit).

    Writes `report.html` and `lift.json` to `out` and adds the report to the Evidently `workspace`.

    Raises:
        UserError: a table is missing or malformed, or its arms are not those of the config.
    """
    shown, done = _scan(exposures, EXPOSURES), _scan(outcomes, OUTCOMES)
    users = user_table(shown, done)
    single = users.filter(~pl.col("user_id").is_duplicated())
    rows = compare_arms(single, config)
    span = shown.select(first=pl.col("timestamp").min(), last=pl.col("timestamp").max()).collect().row(0, named=True)
    summary = _summarize(rows, config, single=single, crossed=users["user_id"].n_unique() - len(single), span=span)
    summary["share_without_model"] = _share_without_model(shown)
    snapshot = _run(rows, summary, config, moment=span["last"])
    digest = digest_file(outcomes)[:12]
    with new_artifact(out, kind="lift_report", inputs={}, config=config) as artifact:
        snapshot.save_html(str(artifact.path / "report.html"))
        write_json(artifact.path / "lift.json", summary)
        artifact.metrics.update(users=len(single), srm_p_value=summary["srm"]["p_value"])
        artifact.labels.update(exposures=digest_file(exposures)[:12], outcomes=digest, traffic=config.traffic_label)
    project = open_project(workspace, name=config.project, panels={"Lift": _panels(config)})
    add_snapshot(workspace, project, snapshot, name=f"lift {digest} ({config.traffic_label})")


def _scan(path: Path, table: Table) -> pl.LazyFrame:
    if not path.is_file():
        raise UserError(
            f"no table '{table.name}' at {path}; it is written by the gateway's log or the traffic simulator."
        )
    frame = pl.scan_parquet(path)
    if frame.collect_schema() != table.schema:
        raise UserError(f"{path} is not a table '{table.name}'; its columns are {', '.join(table.schema)}.")
    return frame


def user_table(exposures: pl.LazyFrame, outcomes: pl.LazyFrame) -> pl.DataFrame:
    """One row per user and arm: impressions, clicks, orders, gmv and `users` (1).

    What was shown and has no outcome was not clicked.
    """
    done = outcomes.select("request_id", "item_id", "click", "order", "revenue")
    joined = exposures.select("request_id", "item_id", "user_id", "arm").join(
        done, on=["request_id", "item_id"], how="left"
    )
    return (
        joined.group_by("user_id", "arm")
        .agg(
            impressions=pl.len().cast(pl.Float64),
            clicks=pl.col("click").sum().cast(pl.Float64),
            orders=pl.col("order").sum().cast(pl.Float64),
            gmv=pl.col("revenue").sum(),
        )
        .with_columns(users=pl.lit(1.0))
        .sort("user_id", "arm")
        .collect(engine="streaming")
    )


def _share_without_model(exposures: pl.LazyFrame) -> dict[str, float]:
    """Arm -> share of what was shown that its ranker did not score; it counts for the arm all the same."""
    scored = pl.col("model_version") == pl.col("routed_version")
    shares = exposures.group_by("arm").agg(share=1 - scored.mean()).sort("arm").collect(engine="streaming")
    return dict(shares.iter_rows())


def compare_arms(users: pl.DataFrame, config: MonitoringConfig) -> list[LiftRow]:
    """Every metric of every arm, against the control.

    Raises:
        UserError: the control arm was never shown, or an arm has no share in the config.
    """
    arms = _arms(users, config)
    rows: list[LiftRow] = []
    for metric in METRICS:
        estimates = {arm: _estimate(users, arm, metric) for arm in arms}
        counts = {arm: int((users["arm"] == arm).sum()) for arm in arms}
        control = estimates[config.control_arm]
        rows += [_row(arm, metric, counts[arm], estimates[arm], control, config) for arm in arms]
    return rows


def _arms(users: pl.DataFrame, config: MonitoringConfig) -> list[str]:
    seen = sorted(users["arm"].unique())
    if config.control_arm not in seen:
        raise UserError(f"control_arm '{config.control_arm}' was shown to no user; arms in the exposures: {seen}")
    strange = [arm for arm in seen if config.arm_shares and arm not in config.arm_shares]
    if strange:
        raise UserError(f"arm_shares has no share for {strange}; name every arm of the experiment or none.")
    return [config.control_arm, *(arm for arm in seen if arm != config.control_arm)]


def _estimate(users: pl.DataFrame, arm: str, metric: LiftMetric) -> Estimate | None:
    numerator, denominator = METRICS[metric]
    of_arm = users.filter(pl.col("arm") == arm)
    return ratio_estimate(of_arm[numerator].to_numpy(), of_arm[denominator].to_numpy())


def _row(
    arm: str, metric: LiftMetric, users: int, own: Estimate | None, control: Estimate | None, config: MonitoringConfig
) -> LiftRow:
    level = config.confidence
    value = value_interval(own, confidence=level)
    if arm == config.control_arm:
        return LiftRow(arm, metric, users, value, UNKNOWN, UNKNOWN)
    absolute = absolute_lift(own, control, confidence=level)
    return LiftRow(arm, metric, users, value, absolute, relative_lift(own, control, confidence=level))


def _summarize(
    rows: list[LiftRow], config: MonitoringConfig, *, single: pl.DataFrame, crossed: int, span: dict[str, Any]
) -> dict[str, Any]:
    counts = {row.arm: row.users for row in rows}
    shares = config.arm_shares or dict.fromkeys(counts, 1.0)
    p_value = sample_ratio_p_value(counts, shares)
    intended = {arm: len(single) * share / sum(shares.values()) for arm, share in shares.items()}
    return {
        "traffic": config.traffic_label,
        "first_exposure": span["first"],
        "last_exposure": span["last"],
        "control": config.control_arm,
        "confidence": config.confidence,
        "users_in_several_arms": crossed,
        "srm": {"p_value": p_value, "mismatch": p_value < config.srm_alpha, "users": counts, "intended": intended},
        "rows": [
            {**row._asdict(), **{name: getattr(row, name)._asdict() for name in ("value", "absolute", "relative")}}
            for row in rows
        ],
    }


def _run(rows: list[LiftRow], summary: dict[str, Any], config: MonitoringConfig, *, moment: Any) -> Snapshot:
    frame = pl.DataFrame([_flat(row) for row in rows], infer_schema_length=None).with_columns(
        intended=pl.col("arm").replace_strict(summary["srm"]["intended"], return_dtype=pl.Float64),
        p_value=pl.lit(summary["srm"]["p_value"]),
    )
    numbers = [name for name, dtype in frame.schema.items() if dtype.is_numeric()]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=["arm", "metric"])
    known = [row for row in rows if row.relative.value is not None]
    label = config.traffic_label
    metrics: list[Any] = [
        SampleRatio(label=label, tests=[gte(config.srm_alpha)]),
        *(RelativeLift(measure=row.metric, arm=row.arm, label=label, tests=[]) for row in known),
    ]
    dataset = Dataset.from_pandas(frame.to_pandas(), data_definition=definition)
    return Report(metrics, metadata={"traffic": label}).run(dataset, None, timestamp=moment)


def _flat(row: LiftRow) -> dict[str, Any]:
    intervals = {name: getattr(row, name)._asdict() for name in ("value", "absolute", "relative")}
    bounds = {f"{name}_{bound}": number for name, part in intervals.items() for bound, number in part.items()}
    return {"arm": row.arm, "metric": row.metric, "users": row.users, **bounds}


def _panels(config: MonitoringConfig) -> list[DashboardPanelPlot]:
    lifts = [PanelMetric(metric="RelativeLift", metric_labels={"measure": name}, legend=name) for name in METRICS]
    return [
        text_panel(
            title=f"A/B lift: {config.traffic_label}", description="Relative lift over control, user as the unit"
        ),
        line_plot_panel(title="Relative lift over control", values=lifts),
        line_plot_panel(title="Sample-ratio p-value", values=[PanelMetric(metric="SampleRatio", legend="p-value")]),
    ]
