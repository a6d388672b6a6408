"""The drift report: did what the ranker sees, or says, move away from the reference window?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from contracts.artifacts import create_artifact, write_json
from contracts.digests import digest_file
from monitoring.config import SAMPLING_SEED, MonitoringConfig
from monitoring.drift.aa_windows import EMBEDDING, Comparison, compare_windows
from monitoring.drift.daily_figures import list_daily_figures, measure_figures
from monitoring.drift.drift_columns import COLUMNS, bin_column, list_causes
from monitoring.drift.drift_findings import DriftFinding, list_findings
from monitoring.drift.drift_snapshot import run_evidently_report
from monitoring.drift.embedding_drift import cross_validate_domain_auc, project_on_principal_axes
from monitoring.drift.user_counts import build_row_features, count_items, list_slices, number_units
from monitoring.drift.window_tables import ReferenceNote, Windows, describe_span, load_windows
from monitoring.evidently_workspace import add_snapshot, open_project

# What the domain classifier sees of the item vectors: with more, it needs more rows than a short window has.
_NUM_COMPONENTS: Final = 16
_MIN_DAY_REQUESTS: Final = 20
_DAY_S: Final = 86_400
_EVALUATION_TEXT: Final = (
    "the reference is an evaluation's test lists: other rankers and candidates filled them, so only missing "
    "values are judged until the rankers in service have a reference of their own"
)


class WindowComparison(NamedTuple):
    """All comparisons of two windows and what follows from them."""

    comparisons: list[Comparison]
    findings: list[DriftFinding]
    withheld: list[str]
    """Columns whose values the reference cannot judge."""


def report_drift(
    reference: Path, current: Path, config: MonitoringConfig, *, workspace: Path, out: Path
) -> None:
    """Compares two tables SERVING_FEATURES (Parquet).

    Writes `report.html` and `drift.json` to `out` and adds the report to the Evidently `workspace`. What the
    reference is stands in `<reference>.json` beside it (`ReferenceNote`), if anything does.

    Raises:
        UserError: a table is not there, is no SERVING_FEATURES table, or holds too few requests.
    """
    windows = load_windows(reference, current, config)
    comparison = compare_served_windows(windows, config)
    summary = _summarize_drift(windows, comparison, config)
    summary["days"] = _compare_days(windows, config)
    snapshot = run_evidently_report(summary, config)
    digest = digest_file(current)[:12]
    with create_artifact(out, kind="drift_report", inputs={}, config=config) as artifact:
        snapshot.save_html(str(artifact.path / "report.html"))
        write_json(artifact.path / "drift.json", summary)
        artifact.metrics.update(
            drifted_share=summary["drifted_share"],
            drifted=float(summary["drifted"]),
            findings=len(summary["findings"]),
        )
        artifact.labels.update(
            reference=digest_file(reference)[:12], current=digest, traffic=config.traffic_label
        )
    project = open_project(workspace, panels={})
    add_snapshot(workspace, project, snapshot, name=f"drift {digest} ({config.traffic_label})")


def compare_served_windows(
    windows: Windows, config: MonitoringConfig, *, by_slice: bool = True
) -> WindowComparison:
    """Compares everything that both windows hold, with thresholds from A/A windows of the reference."""
    columns = [*COLUMNS, *list_causes(windows.pair)]
    bins = [bin_column(column, windows.pair) for column in columns]
    units = number_units(windows.pair)
    slices = list_slices(windows.pair)
    chosen = dict(slices if by_slice else {"all": slices["all"]})
    comparisons = compare_windows(
        build_row_features(windows.pair, bins), units, chosen, bins, count_items(windows.pair, units), config
    )
    withheld = _list_withheld(comparisons, windows.note)
    kept = [
        one
        for one in comparisons
        if one.column not in withheld or (one.aspect == "missing" and _is_judged_when_missing(one, windows))
    ]
    return WindowComparison(kept, list_findings(kept, columns, windows.pair), withheld)


def _list_withheld(comparisons: Sequence[Comparison], note: ReferenceNote) -> list[str]:
    if note.source != "evaluation":
        return []
    return sorted({one.column for one in comparisons if not one.column.startswith("degraded")})


def _is_judged_when_missing(comparison: Comparison, windows: Windows) -> bool:
    """Test lists say nothing of scenes and arms, so their absence there is no change."""
    if comparison.column == EMBEDDING or comparison.column not in windows.reference.columns:
        return comparison.column == EMBEDDING
    return windows.reference[comparison.column].null_count() < len(windows.reference)


def _summarize_drift(
    windows: Windows, comparison: WindowComparison, config: MonitoringConfig
) -> dict[str, Any]:
    overall = [one for one in comparison.comparisons if one.slice_name == "all"]
    values = {one.column: one for one in overall if one.aspect == "values"}
    drifted = list(dict.fromkeys(finding.column for finding in comparison.findings))
    drifted_columns = [column for column in drifted if column != EMBEDDING]
    columns = [column.name for column in COLUMNS]
    not_compared = [
        name
        for name in (*columns, EMBEDDING)
        if all(window[name].null_count() == len(window) for window in windows.pair)
    ]
    stale = _list_stale(windows.current, config)
    withheld_text = [_EVALUATION_TEXT] if comparison.withheld else []
    return {
        "traffic": config.traffic_label,
        "reference": windows.note.model_dump(mode="json") | describe_span(windows.reference),
        "current": describe_span(windows.current),
        "rows": {"reference": len(windows.reference), "current": len(windows.current)},
        "distances": {name: one.distance for name, one in values.items() if name not in not_compared},
        "thresholds": {name: one.threshold for name, one in values.items() if name not in not_compared},
        "missing": {
            name: {
                side: window[name].null_count() / len(window)
                for side, window in zip(("reference", "current"), windows.pair, strict=True)
            }
            for name in (*columns, EMBEDDING)
        },
        "not_compared": not_compared,
        "withheld": comparison.withheld,
        "findings": [finding._asdict() for finding in comparison.findings],
        "reasons": [finding.sentence for finding in comparison.findings] + stale + withheld_text,
        "stale": stale,
        "drifted_columns": drifted_columns,
        "drifted_share": len(drifted_columns) / len(columns),
        "embedding_auc": _measure_domain_auc(windows),
        "embedding_drifted": EMBEDDING in drifted,
        "drifted": bool(drifted),
        "figures": {
            side: measure_figures(window, windows.reference, windows.note.num_items)
            for side, window in zip(("reference", "current"), windows.pair, strict=True)
        },
    }


def _list_stale(current: pl.DataFrame, config: MonitoringConfig) -> list[str]:
    sentences = []
    for column, subject, remedy in (
        ("features_age_s", "users' features", "run refresh_users"),
        ("catalogue_age_s", "the catalogue", "run refresh_catalogue"),
    ):
        newest = current[column].max()
        if isinstance(newest, float) and newest > config.max_features_age_days * _DAY_S:
            sentences.append(f"nothing was added to {subject} for {newest / _DAY_S:.0f} days: {remedy}.")
    return sentences


def _measure_domain_auc(windows: Windows) -> float | None:
    """AUC of a classifier that tells the windows apart by item vectors: 0.5 means that it cannot.

    Whether a vector is there at all counts, too.
    """
    vectors = [window["embedding"].drop_nulls() for window in windows.pair]
    shares = [len(present) / len(window) for present, window in zip(vectors, windows.pair, strict=True)]
    if not any(shares):
        return None
    auc_of_presence = 0.5 + abs(shares[0] - shares[1]) / 2
    if min(map(len, vectors)) < _NUM_COMPONENTS:
        return auc_of_presence
    dim = int(vectors[0].list.len()[0])
    matrices = [np.nan_to_num(column.list.to_array(dim).to_numpy()) for column in vectors]
    projections = project_on_principal_axes(matrices[0], matrices[1], num_axes=_NUM_COMPONENTS)
    return max(auc_of_presence, cross_validate_domain_auc(*projections, seed=SAMPLING_SEED))


def _compare_days(windows: Windows, config: MonitoringConfig) -> list[dict[str, Any]]:
    """Drift of each UTC day of the current window, and the figures of each day of both."""
    days = []
    for day, frame in windows.current.group_by(pl.col("timestamp").dt.date(), maintain_order=True):
        if frame["request_id"].n_unique() < _MIN_DAY_REQUESTS:
            continue
        of_day = compare_served_windows(
            Windows(windows.reference, frame, windows.note), config, by_slice=False
        )
        days.append(
            {
                "day": day[0],
                "drift": {
                    f"{one.column}{' missing' if one.aspect == 'missing' else ''}": one.distance
                    / one.threshold
                    for one in of_day.comparisons
                },
            }
        )
    drift_by_day = {str(row["day"]): row["drift"] for row in days}
    return [
        row | {"drift": drift_by_day.get(row["day"], {})}
        for row in list_daily_figures(windows.reference, windows.current, windows.note.num_items)
    ]
