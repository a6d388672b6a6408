"""The A/B lift report: clicks, orders and GMV per user by arm, with intervals that one user cannot turn."""

from pathlib import Path
from typing import Any, Final

import polars as pl
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.sdk.models import DashboardPanelPlot, PanelMetric
from evidently.sdk.panels import line_plot_panel, text_panel
from evidently.tests import gte

from contracts.artifacts import create_artifact, write_json
from contracts.digests import digest_file
from monitoring.config import MonitoringConfig
from monitoring.evidently_workspace import add_snapshot, open_project
from monitoring.lift.arm_comparison import LiftRow, compare_arms, list_arms_control_first
from monitoring.lift.interleaving import measure_preference
from monitoring.lift.lift_statistics import MISMATCH_ALPHA, compute_sample_ratio_p_value
from monitoring.lift.lift_tables import tabulate_lift_by_day, tabulate_lift_by_slice
from monitoring.lift.lift_widgets import RelativeLift, SampleRatio
from monitoring.lift.outlier_users import METRICS, find_caps, list_metrics
from monitoring.lift.user_totals import LiftTables, UserTotals, open_lift_tables

# So many bots and buyers are named; the counts are of all.
_NAMED_USERS: Final = 5


def report_lift(
    exposures: Path,
    outcomes: Path,
    config: MonitoringConfig,
    *,
    workspace: Path,
    out: Path,
    events: Path | None = None,
    history: Path | None = None,
    teams: Path | None = None,
) -> None:
    """Compares the arms of an experiment (tables EXPOSURES and OUTCOMES, Parquet; the user is the unit).

    Writes `report.html` and `lift.json` to `out` and adds the report to the Evidently `workspace`.

    Args:
        exposures: what was shown.
        outcomes: what users did with it.
        config: monitoring's configuration.
        workspace: Evidently's.
        out: the artifact to write.
        events: all that users did meanwhile (EVENTS), for metrics of the user's own.
        history: what anybody did before (EVENTS), for CUPED and cold items.
        teams: whose pick each item of a shared page was, while rankers are interleaved.

    Raises:
        UserError: a table is missing or malformed, its arms are not those of the config, a revenue is no
            amount, or copies of a row contradict each other.
    """
    rows, summary = measure_lift(exposures, outcomes, config, events=events, history=history, teams=teams)
    snapshot = _run_evidently_report(rows, summary, config)
    digest = digest_file(outcomes)[:12]
    with create_artifact(out, kind="lift_report", inputs={}, config=config) as artifact:
        snapshot.save_html(str(artifact.path / "report.html"))
        write_json(artifact.path / "lift.json", summary)
        artifact.metrics.update(
            users=sum(summary["srm"]["users"].values()), srm_p_value=summary["srm"]["p_value"]
        )
        artifact.labels.update(
            exposures=digest_file(exposures)[:12], outcomes=digest, traffic=config.traffic_label
        )
    project = open_project(workspace, panels={"Lift": _build_dashboard_panels(config)})
    add_snapshot(workspace, project, snapshot, name=f"lift {digest} ({config.traffic_label})")


def measure_lift(
    exposures: Path,
    outcomes: Path,
    config: MonitoringConfig,
    *,
    events: Path | None = None,
    history: Path | None = None,
    teams: Path | None = None,
) -> tuple[list[LiftRow], dict[str, Any]]:
    """The rows of the report, and all of `lift.json`.

    Raises:
        UserError: as `report_lift`.
    """
    with open_lift_tables(exposures, outcomes, events=events, history=history) as tables:
        totals = tables.sum_users(config.bots)
        own_sums = tables.sum_metrics(config.metrics)
        if own_sums is not None:
            with_own = totals.users.join(own_sums, on="user", how="left", maintain_order="left")
            # Not all columns: the users' hashes would become floats.
            totals = totals._replace(users=with_own.with_columns(pl.col(pl.Float64).fill_null(0.0)))
        past_users = tables.sum_history(config)
        # Who saw two arms tells nothing about either.
        single_arm_users = totals.users.filter(~pl.col("user").is_duplicated())
        arms = list_arms_control_first(totals.users, config)
        rows = compare_arms(single_arm_users, arms, config, past_users)
        caps = find_caps(single_arm_users.filter(~pl.col("is_bot")), config)
        summary = _summarize_lift(rows, single_arm_users, arms, config)
        summary |= _count_left_out(totals, single_arm_users, tables)
        summary["rankers"] = tables.list_rankers()
        if past_users is not None:
            with_past = single_arm_users.join(past_users.select("user"), on="user", how="semi")
            summary["share_with_history"] = len(with_past) / max(len(single_arm_users), 1)
        if teams is not None:
            bot_hashes = totals.users.filter("is_bot")["user"].unique().to_list()
            summary["interleaving"] = measure_preference(
                pl.read_parquet(teams),
                pl.read_parquet(outcomes, columns=["request_id", "item_id", "click"]),
                config,
                bots=pl.Series(list(tables.find_user_ids(bot_hashes).values()), dtype=pl.String),
            )
        summary["by_day"] = tabulate_lift_by_day(tables, caps, config)
        summary["by_slice"] = tabulate_lift_by_slice(tables, caps, config)
    return rows, summary


def _count_left_out(totals: UserTotals, single_arm_users: pl.DataFrame, tables: LiftTables) -> dict[str, Any]:
    """Who and what does not count, and what was noticed of the rows."""
    num_users = totals.users["user"].n_unique()
    num_moved = num_users - len(single_arm_users)
    bots = single_arm_users.filter("is_bot")
    top_bots = bots.top_k(_NAMED_USERS, by="impressions")
    top_buyers = single_arm_users.filter(pl.col("gmv") > 0).top_k(_NAMED_USERS, by="gmv")
    user_ids = tables.find_user_ids([*top_bots["user"], *top_buyers["user"]])
    bots_by_arm = dict(bots.group_by("arm").len().sort("arm").iter_rows())
    gmv_by_arm = dict(single_arm_users.group_by("arm").agg(pl.col("gmv").sum()).iter_rows())
    return {
        "users_in_several_arms": num_moved,
        "share_in_several_arms": num_moved / num_users,
        "bots": {
            "share": len(bots) / max(len(single_arm_users), 1),
            "users": bots_by_arm,
            "largest": [
                {
                    "user_id": user_ids[row["user"]],
                    "arm": row["arm"],
                    "impressions": row["impressions"],
                    "clicks": row["clicks"],
                }
                for row in top_bots.iter_rows(named=True)
            ],
        },
        "whales": [
            {
                "user_id": user_ids[row["user"]],
                "arm": row["arm"],
                "gmv": row["gmv"],
                "share_of_arm": row["gmv"] / gmv_by_arm[row["arm"]],
            }
            for row in top_buyers.iter_rows(named=True)
        ],
        "duplicate_exposures": totals.duplicate_exposures,
        "duplicate_outcomes": totals.duplicate_outcomes,
        "orders_without_revenue": totals.orders_without_revenue,
        "orders_without_price": totals.orders_without_price,
        "share_without_model": totals.share_without_model,
        "first_exposure": totals.first_exposure,
        "last_exposure": totals.last_exposure,
    }


def _summarize_lift(
    rows: list[LiftRow], single_arm_users: pl.DataFrame, arms: list[str], config: MonitoringConfig
) -> dict[str, Any]:
    # An arm that should have users and has none is seen here, too.
    user_counts: dict[str, int] = dict.fromkeys([*arms, *config.arm_shares], 0)
    user_counts |= dict(single_arm_users.group_by("arm").len().iter_rows())
    intended_shares = config.arm_shares or dict.fromkeys(user_counts, 1.0)
    p_value = compute_sample_ratio_p_value(user_counts, intended_shares)
    return {
        "traffic": config.traffic_label,
        "control": config.control_arm,
        "confidence": config.confidence,
        "decide_by": config.decide_by,
        "deciding_users": config.deciding_users,
        "cuped": config.cuped,
        "titles": config.titles,
        "srm": {
            "p_value": p_value,
            "mismatch": p_value < MISMATCH_ALPHA,
            "users": user_counts,
            "intended": {
                arm_name: sum(user_counts.values()) * share / sum(intended_shares.values())
                for arm_name, share in intended_shares.items()
            },
        },
        "rows": [row.as_json() for row in rows],
    }


def _run_evidently_report(rows: list[LiftRow], summary: dict[str, Any], config: MonitoringConfig) -> Snapshot:
    result_table = pl.DataFrame([_flatten_row(row) for row in rows], infer_schema_length=None).with_columns(
        intended=pl.col("arm").replace_strict(summary["srm"]["intended"], return_dtype=pl.Float64),
        p_value=pl.lit(summary["srm"]["p_value"]),
    )
    numerical_columns = [name for name, dtype in result_table.schema.items() if dtype.is_numeric()]
    definition = DataDefinition(numerical_columns=numerical_columns, categorical_columns=["arm", "metric"])
    traffic_label = config.traffic_label
    metrics: list[Any] = [
        SampleRatio(label=traffic_label, tests=[gte(MISMATCH_ALPHA)]),
        *(
            RelativeLift(
                measure=row.metric,
                arm=row.arm,
                label=traffic_label,
                title="" if row.metric in METRICS else config.titles[row.metric],
                tests=[],
            )
            for row in rows
            if row.relative.value is not None
        ),
    ]
    dataset = Dataset.from_pandas(result_table.to_pandas(), data_definition=definition)
    report = Report(metrics, metadata={"traffic": traffic_label})
    return report.run(dataset, None, timestamp=summary["last_exposure"])


def _flatten_row(row: LiftRow) -> dict[str, Any]:
    bounds = {
        f"{interval_name}_{bound}": number
        for interval_name, interval in row.interval_fields().items()
        for bound, number in interval.items()
    }
    return {"arm": row.arm, "metric": row.metric, "users": row.users, **bounds}


def _build_dashboard_panels(config: MonitoringConfig) -> list[DashboardPanelPlot]:
    relative_lifts = [
        PanelMetric(metric="RelativeLift", metric_labels={"measure": metric_name}, legend=metric_name)
        for metric_name in list_metrics(config)
    ]
    p_values = [PanelMetric(metric="SampleRatio", legend="p-value")]
    return [
        text_panel(
            title=f"A/B lift: {config.traffic_label}",
            description="Relative lift over control, user as the unit",
        ),
        line_plot_panel(title="Relative lift over control", values=relative_lifts),
        line_plot_panel(title="Sample-ratio p-value", values=p_values),
    ]
