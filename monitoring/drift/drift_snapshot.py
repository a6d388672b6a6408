"""The drift report as an Evidently snapshot: what was found, in words, and how far each column is."""

from datetime import datetime
from html import escape
from typing import Any

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.tests import lt

from monitoring.config import MonitoringConfig
from monitoring.drift.drift_widgets import DriftFindings, WindowRows
from monitoring.evidently_figures import NamedFigure


def run_evidently_report(summary: dict[str, Any], config: MonitoringConfig) -> Snapshot:
    """Shows the content of `drift.json`. Each column's distance is a share of what luck stays below."""
    rows = [
        {"subject": escape(f"drift {name}"), "value": distance / summary["thresholds"][name]}
        for name, distance in summary["distances"].items()
    ]
    table = pd.DataFrame(rows or [{"subject": "drift", "value": 0.0}])
    for side in ("reference", "current"):
        table[f"{side}_rows"] = summary["rows"][side]
    definition = DataDefinition(
        numerical_columns=["value", "reference_rows", "current_rows"], categorical_columns=["subject"]
    )
    metrics: list[Any] = [
        WindowRows(label=config.traffic_label, tests=[]),
        DriftFindings(
            label=config.traffic_label,
            sentences=[escape(sentence) for sentence in summary["reasons"]],
            tests=[],
        ),
        *(NamedFigure(subject=row["subject"], label=config.traffic_label, tests=[lt(1)]) for row in rows),
    ]
    report = Report(metrics, metadata={"traffic": config.traffic_label})
    dataset = Dataset.from_pandas(table, data_definition=definition)
    return report.run(dataset, None, timestamp=datetime.fromisoformat(summary["current"]["last"]))
