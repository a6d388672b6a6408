"""The drift report: did what the ranker sees, or says, move away from the reference window?"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.metrics import ValueDrift
from evidently.sdk.models import DashboardPanelPlot, PanelMetric
from evidently.sdk.panels import line_plot_panel, text_panel
from evidently.tests import lt

from contracts.artifacts import new_artifact, write_json
from contracts.digests import digest_file
from contracts.errors import UserError
from monitoring import column_drift
from monitoring.config import MonitoringConfig
from monitoring.embedding_drift import ItemVectorDrift, principal_components
from monitoring.features import ITEM_COLUMNS, REQUEST_COLUMNS, SERVING_FEATURES
from monitoring.window_metric import WindowRows
from monitoring.workspace import add_snapshot, open_project

_COLUMNS = (*ITEM_COLUMNS, *REQUEST_COLUMNS)
_COMPONENT = "embedding_{:03d}"
_VECTORS = "ItemVectorDrift"


class Windows(NamedTuple):
    """The two windows, sampled, with the same columns."""

    reference: pl.DataFrame
    current: pl.DataFrame
    columns: list[str]
    """Scalar columns that can be compared."""
    components: list[str]
    """Columns of the item vectors' principal components; empty when a window has no vectors."""
    missing: list[str]
    """Columns that hold no value in one of the windows."""


def report_drift(reference: Path, current: Path, config: MonitoringConfig, *, workspace: Path, out: Path) -> None:
    """Compares two tables SERVING_FEATURES (Parquet).

    Writes `report.html` and `drift.json` to `out` and adds the report to the Evidently `workspace`.

    Raises:
        UserError: a table is not there, is no SERVING_FEATURES table, or holds too few requests.
    """
    windows = _load(reference, current, config)
    snapshot = _run(windows, config, moment=windows.current["timestamp"].max())
    summary = _summarize(snapshot, windows, config)
    digest = digest_file(current)[:12]
    with new_artifact(out, kind="drift_report", inputs={}, config=config) as artifact:
        snapshot.save_html(str(artifact.path / "report.html"))
        write_json(artifact.path / "drift.json", summary)
        artifact.metrics.update(drifted_share=summary["drifted_share"], drifted=float(summary["drifted"]))
        artifact.labels.update(reference=digest_file(reference)[:12], current=digest, traffic=config.traffic_label)
    project = open_project(workspace, name=config.project, panels={"Drift": _panels(config)})
    add_snapshot(workspace, project, snapshot, name=f"drift {digest} ({config.traffic_label})")


def _load(reference: Path, current: Path, config: MonitoringConfig) -> Windows:
    first, second = (_sample(path, config) for path in (reference, current))
    compared = [name for name in _COLUMNS if all(frame[name].count() for frame in (first, second))]
    first, second, components = _with_components(first, second, config)
    missing = [name for name in _COLUMNS if name not in compared]
    return Windows(first, second, compared, components, missing + ([] if components else ["embedding"]))


def _sample(path: Path, config: MonitoringConfig) -> pl.DataFrame:
    if not path.is_file():
        raise UserError(f"no table of serving features at {path}; make one with monitoring.features.feature_frame.")
    table = pl.scan_parquet(path)
    if table.collect_schema() != SERVING_FEATURES.schema:
        raise UserError(
            f"{path} is not a '{SERVING_FEATURES.name}' table; its columns are {list(SERVING_FEATURES.schema)}"
        )
    counts = table.select(pl.len(), requests=pl.col("request_id").n_unique()).collect().row(0, named=True)
    if counts["requests"] < config.min_requests:
        raise UserError(
            f"{path} holds {counts['requests']} requests, drift needs at least {config.min_requests} (min_requests): "
            "compare a longer window."
        )
    chosen = np.random.default_rng(config.seed).permutation(counts["len"])[: config.max_rows]
    kept = pl.Series(np.sort(chosen), dtype=pl.UInt32)
    sampled = table.with_row_index().filter(pl.col("index").is_in(kept.implode())).drop("index").collect()
    return _once_per_request(sampled)


def _once_per_request(frame: pl.DataFrame) -> pl.DataFrame:
    """Keeps what is the same in all rows of a request in one of them: a request is one observation of its user."""
    first = pl.col("request_id").is_first_distinct()
    return frame.with_columns(pl.when(first).then(pl.col(name)).alias(name) for name in REQUEST_COLUMNS)


def _with_components(
    reference: pl.DataFrame, current: pl.DataFrame, config: MonitoringConfig
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Replaces the item vectors by their principal components."""
    known = [frame["embedding"].drop_nulls() for frame in (reference, current)]
    lengths = {length for column in known for length in column.list.len().unique()}
    frames = [frame.drop("embedding") for frame in (reference, current)]
    if min(len(column) for column in known) == 0:
        return frames[0], frames[1], []
    if len(lengths) > 1:
        raise UserError(
            f"item vectors of lengths {sorted(lengths)} cannot be compared: the windows mix embedding spaces."
        )
    vectors = (column.list.to_array(lengths.copy().pop()).to_numpy() for column in known)
    projected = principal_components(*vectors, count=config.embedding_components)
    names = [_COMPONENT.format(number) for number in range(projected[0].shape[1])]
    first, second = (
        _put_back(frame, whole["embedding"].is_not_null(), pl.DataFrame(part, schema=names))
        for frame, whole, part in zip(frames, (reference, current), projected, strict=True)
    )
    return first, second, names


def _put_back(frame: pl.DataFrame, known: pl.Series, part: pl.DataFrame) -> pl.DataFrame:
    row = known.cast(pl.UInt32).cum_sum() - 1
    at = pl.select(pl.when(known).then(row)).to_series()
    return frame.hstack([part[name].gather(at) for name in part.columns])


def _run(windows: Windows, config: MonitoringConfig, *, moment: Any) -> Snapshot:
    column_drift.register()
    definition = DataDefinition(numerical_columns=[*windows.columns, *windows.components])
    columns = [*windows.columns, *windows.components]
    reference, current = (
        Dataset.from_pandas(frame.select(columns).to_pandas(), data_definition=definition)
        for frame in (windows.reference, windows.current)
    )
    metrics: list[Any] = [WindowRows(label=config.traffic_label, tests=[])]
    metrics += [
        ValueDrift(column=name, method=column_drift.METHOD, threshold=config.drift_threshold)
        for name in windows.columns
    ]
    if windows.components:
        tests = [lt(config.embedding_auc_threshold)]
        metrics.append(ItemVectorDrift(columns=windows.components, seed=config.seed, tests=tests))
    report = Report(metrics, include_tests=True, metadata={"traffic": config.traffic_label})
    return report.run(current, reference, timestamp=moment)


def _summarize(snapshot: Snapshot, windows: Windows, config: MonitoringConfig) -> dict[str, Any]:
    results = snapshot.dict()
    values = {_subject(metric["config"]): float(metric["value"]) for metric in results["metrics"]}
    failed = {_subject(test["metric_config"]["params"]) for test in results["tests"] if test["status"] == "FAIL"}
    drifted = [name for name in windows.columns if name in failed]
    share = len(drifted) / max(len(windows.columns), 1)
    vectors_drifted = _VECTORS in failed
    return {
        "traffic": config.traffic_label,
        "rows": {"reference": len(windows.reference), "current": len(windows.current)},
        "distances": {name: values[name] for name in windows.columns},
        "not_compared": windows.missing,
        "drifted_columns": drifted,
        "drifted_share": share,
        "embedding_auc": values.get(_VECTORS),
        "embedding_drifted": vectors_drifted,
        "drifted": share >= config.drifted_share or vectors_drifted,
    }


def _subject(params: dict[str, Any]) -> str:
    """The column a metric is about, or else the metric's own name."""
    return str(params.get("column") or params["type"].rpartition(":")[2])


def _panels(config: MonitoringConfig) -> list[DashboardPanelPlot]:
    columns = [PanelMetric(metric="ValueDrift", metric_labels={"column": name}, legend=name) for name in _COLUMNS]
    return [
        text_panel(title=f"Drift: {config.traffic_label}", description="Serving window against its reference"),
        line_plot_panel(title="Wasserstein distance of features and scores (reference deviations)", values=columns),
        line_plot_panel(
            title="AUC of telling the windows apart by item vectors (0.5: no drift)",
            values=[PanelMetric(metric="ItemVectorDrift", legend="AUC")],
        ),
    ]
