"""Window sizes and findings of a drift report as Evidently metrics, for reports and the UI.

Names that come from data are escaped: Evidently writes them into a script element as they are.
"""

from html import escape

import plotly.graph_objects as go  # type: ignore[import-untyped]
from evidently.core.datasets import Dataset
from evidently.core.metric_types import SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.core.report import Context
from evidently.legacy.renderers.html_widgets import CounterData, counter, plotly_figure, table_data


class WindowRows(SingleValueMetric):  # type: ignore[misc]  # Evidently ships no types we follow
    """Number of rows compared in the current window of the traffic called `label`."""

    label: str


class WindowRowsCalculation(SingleValueCalculation[WindowRows]):  # type: ignore[misc]
    """Computes `WindowRows`."""

    def calculate(
        self,
        context: Context,  # noqa: ARG002
        current_data: Dataset,
        reference_data: Dataset | None,  # noqa: ARG002
    ) -> SingleValue:
        """Reads the rows of both windows."""
        table = current_data.as_dataframe()
        rows = {side: int(table[f"{side}_rows"].iloc[0]) for side in ("reference", "current")}
        result = self.result(rows["current"])
        counters = [CounterData.int(f"{side} rows", count) for side, count in rows.items()]
        result.widget = [counter(title=self.display_name(), counters=counters)]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        return escape(f"Drift: {self.metric.label}")


class DriftFindings(SingleValueMetric):  # type: ignore[misc]
    """Number of findings, told one by one, with a bar for each column; `sentences` are escaped already."""

    label: str
    sentences: list[str]


class DriftFindingsCalculation(SingleValueCalculation[DriftFindings]):  # type: ignore[misc]
    """Shows `DriftFindings`."""

    def calculate(
        self,
        context: Context,  # noqa: ARG002
        current_data: Dataset,
        reference_data: Dataset | None,  # noqa: ARG002
    ) -> SingleValue:
        """Shows what was found above how far each column is."""
        sentences = self.metric.sentences or ["Nothing has drifted."]
        result = self.result(len(self.metric.sentences))
        table = current_data.as_dataframe()
        names = table["subject"].tolist()
        figure = go.Figure(go.Bar(x=table["value"].tolist(), y=names, orientation="h", name="distance"))
        figure.add_vline(x=1.0, line_dash="dash", annotation_text="luck stays below")
        figure.update_layout(height=max(280, 26 * len(names)), xaxis_title="distance / threshold")
        result.widget = [
            table_data(
                title=self.display_name(),
                column_names=["What was found"],
                data=[[sentence] for sentence in sentences],
            ),
            plotly_figure(title="How far each column is", figure=figure),
        ]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        return escape(f"What has drifted ({self.metric.label})")
