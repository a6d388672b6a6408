"""Lift and sample ratio as Evidently metrics, so that they show in reports and in the UI.

Their data is the small table of results (one row per metric and arm), computed once in `lift_report.py`; here
it is only shown. Names that come from data are escaped: Evidently writes them into a script element as they
are.
"""

from html import escape

import pandas as pd
from evidently.core.datasets import Dataset
from evidently.core.metric_types import SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.core.report import Context
from evidently.legacy.renderers.html_widgets import CounterData, counter, table_data

from monitoring.config import METRIC_TITLES


class RelativeLift(SingleValueMetric):  # type: ignore[misc]  # Evidently ships no types we follow
    """Relative lift of `measure` in `arm` over the control arm."""

    measure: str
    arm: str
    label: str
    title: str = ""
    """Of a metric of the user's own."""


class RelativeLiftCalculation(SingleValueCalculation[RelativeLift]):  # type: ignore[misc]
    """Shows `RelativeLift` with all arms' values and intervals."""

    def calculate(
        self,
        context: Context,  # noqa: ARG002
        current_data: Dataset,
        reference_data: Dataset | None,  # noqa: ARG002
    ) -> SingleValue:
        """Reads the result of the arm from the table of results."""
        result_table = current_data.as_dataframe()
        metric_rows = result_table[result_table["metric"] == self.metric.measure]
        of_arm = metric_rows[metric_rows["arm"] == self.metric.arm]
        result = self.result(float(of_arm["relative_value"].iloc[0]))
        column_names = ["Arm", "Users", "Value", "Absolute lift", "Relative lift"]
        table_rows = [_format_arm_row(row) for _, row in metric_rows.iterrows()]
        result.widget = [table_data(title=self.display_name(), column_names=column_names, data=table_rows)]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        name = self.metric.title or METRIC_TITLES[self.metric.measure]
        title = f"{name}: lift of {self.metric.arm} ({self.metric.label})"
        return escape(title)


class SampleRatio(SingleValueMetric):  # type: ignore[misc]
    """P-value of the observed split of users among the arms.

    It comes with the data, not as a parameter: Evidently draws one line in the dashboard for each set of
    parameters.
    """

    label: str


class SampleRatioCalculation(SingleValueCalculation[SampleRatio]):  # type: ignore[misc]
    """Shows `SampleRatio` with the users of each arm."""

    def calculate(
        self,
        context: Context,  # noqa: ARG002
        current_data: Dataset,
        reference_data: Dataset | None,  # noqa: ARG002
    ) -> SingleValue:
        """Shows the p-value beside the counts."""
        arms = current_data.as_dataframe().drop_duplicates("arm")
        table_rows = [
            [escape(str(row["arm"])), int(row["users"]), f"{row['intended']:.1f}"]
            for _, row in arms.iterrows()
        ]
        p_value = float(arms["p_value"].iloc[0])
        result = self.result(p_value)
        result.widget = [
            counter(title=self.display_name(), counters=[CounterData.float("p-value", p_value, 4)]),
            table_data(title="", column_names=["Arm", "Users", "Users intended"], data=table_rows),
        ]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        return escape(f"Sample ratio of the arms ({self.metric.label})")


def _format_arm_row(row: "pd.Series[float]") -> list[str]:
    return [
        escape(str(row["arm"])),
        str(int(row["users"])),
        _format_interval(row, "value", "{:.4g}"),
        _format_interval(row, "absolute", "{:+.4g}"),
        _format_interval(row, "relative", "{:+.1%}"),
    ]


def _format_interval(row: "pd.Series[float]", name: str, number_format: str) -> str:
    value, low, high = (row[f"{name}_{bound}"] for bound in ("value", "low", "high"))
    if pd.isna(value):
        return "-"
    value_text = number_format.format(value)
    if pd.isna(low) or pd.isna(high):
        return f"{value_text} (interval unknown)"
    return f"{value_text} ({number_format.format(low)} to {number_format.format(high)})"
