"""Decision, forest plots and lineage on one report page, as an Evidently metric.

Every text comes escaped: Evidently writes it into a script element as it is.
"""

from html import escape
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]
from evidently.core.datasets import Dataset
from evidently.core.metric_types import SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.core.report import Context
from evidently.legacy.renderers.html_widgets import plotly_figure, table_data


class Overview(SingleValueMetric):  # type: ignore[misc]  # Evidently ships no types we follow
    """Number of days, with all that was decided and measured over them."""

    label: str
    action: str
    sentences: list[str]
    lifts: list[list[Any]]
    """Metric's name, arm, relative lift, its lower and its upper bound."""
    lineage: list[list[str]]
    """What, digest, names and versions."""


class OverviewCalculation(SingleValueCalculation[Overview]):  # type: ignore[misc]
    """Shows `Overview`."""

    def calculate(
        self,
        context: Context,  # noqa: ARG002
        current_data: Dataset,
        reference_data: Dataset | None,  # noqa: ARG002
    ) -> SingleValue:
        """Draws a forest plot for each metric between two tables."""
        result = self.result(float(current_data.as_dataframe()["value"].iloc[0]))
        metrics = dict.fromkeys(row[0] for row in self.metric.lifts)
        result.widget = [
            table_data(
                title=self.display_name(),
                column_names=["Why"],
                data=[[sentence] for sentence in self.metric.sentences] or [["-"]],
            ),
            *(
                plotly_figure(
                    title=f"{metric}: lift over control",
                    figure=_draw_forest([row for row in self.metric.lifts if row[0] == metric]),
                )
                for metric in metrics
            ),
            table_data(
                title="Made from",
                column_names=["What", "Digest", "Names and versions"],
                data=self.metric.lineage,
            ),
        ]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        return f"Decision: {self.metric.action} ({escape(self.metric.label)})"


def _draw_forest(rows: list[list[Any]]) -> Any:
    values = [row[2] for row in rows]
    upper = [0.0 if row[4] is None else row[4] - row[2] for row in rows]
    lower = [0.0 if row[3] is None else row[2] - row[3] for row in rows]
    spread = {"type": "data", "symmetric": False, "array": upper, "arrayminus": lower}
    names = [row[1] for row in rows]
    figure = go.Figure(go.Scatter(x=values, y=names, error_x=spread, mode="markers", marker={"size": 12}))
    figure.add_vline(x=0.0, line_dash="dash")
    figure.update_layout(height=160 + 40 * len(rows), xaxis_tickformat="+.1%", xaxis_title="relative lift")
    return figure
