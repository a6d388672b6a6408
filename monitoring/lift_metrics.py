"""Lift and sample ratio as Evidently metrics, so that they show in reports and in the UI.

Their data is the small table of results (one row per metric and arm), computed once in `monitoring.lift`; here it is
only shown. Names that come from data are escaped: Evidently writes them into a script element as they are.
"""

from html import escape

import pandas as pd
from evidently.core.datasets import Dataset
from evidently.core.metric_types import SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.core.report import Context
from evidently.legacy.renderers.html_widgets import CounterData, counter, table_data

_TITLES = {"ctr": "Click-through rate", "orders_per_user": "Orders per user", "gmv_per_user": "GMV per user"}


class RelativeLift(SingleValueMetric):  # type: ignore[misc]  # Evidently ships no types we follow
    """Relative lift of `measure` in `arm` over the control arm."""

    measure: str
    arm: str
    label: str


class RelativeLiftCalculation(SingleValueCalculation[RelativeLift]):  # type: ignore[misc]
    """Shows `RelativeLift` with all arms' values and intervals."""

    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset | None) -> SingleValue:  # noqa: ARG002
        """Reads the result of the arm from the table of results."""
        table = current_data.as_dataframe()
        rows = table[(table["metric"] == self.metric.measure)]
        value = float(rows.loc[rows["arm"] == self.metric.arm, "relative_value"].iloc[0])
        result = self.result(value)
        columns = ["Arm", "Users", "Value", "Absolute lift", "Relative lift"]
        data = [_arm_line(row) for _, row in rows.iterrows()]
        result.widget = [table_data(title=self.display_name(), column_names=columns, data=data)]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        title = f"{_TITLES[self.metric.measure]}: lift of {self.metric.arm} ({self.metric.label})"
        return escape(title)


class SampleRatio(SingleValueMetric):  # type: ignore[misc]
    """P-value of the observed split of users among the arms.

    It comes with the data, not as a parameter: Evidently draws one line in the dashboard for each set of parameters.
    """

    label: str


class SampleRatioCalculation(SingleValueCalculation[SampleRatio]):  # type: ignore[misc]
    """Shows `SampleRatio` with the users of each arm."""

    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset | None) -> SingleValue:  # noqa: ARG002
        """Shows the p-value beside the counts."""
        arms = current_data.as_dataframe().drop_duplicates("arm")
        data = [[escape(str(row["arm"])), int(row["users"]), f"{row['intended']:.1f}"] for _, row in arms.iterrows()]
        p_value = float(arms["p_value"].iloc[0])
        result = self.result(p_value)
        result.widget = [
            counter(title=self.display_name(), counters=[CounterData.float("p-value", p_value, 4)]),
            table_data(title="", column_names=["Arm", "Users", "Users intended"], data=data),
        ]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        return escape(f"Sample ratio of the arms ({self.metric.label})")


def _arm_line(row: "pd.Series[float]") -> list[str]:
    return [
        escape(str(row["arm"])),
        str(int(row["users"])),
        _interval(row, "value", "{:.4g}"),
        _interval(row, "absolute", "{:+.4g}"),
        _interval(row, "relative", "{:+.1%}"),
    ]


def _interval(row: "pd.Series[float]", name: str, pattern: str) -> str:
    value, low, high = (row[f"{name}_{bound}"] for bound in ("value", "low", "high"))
    if pd.isna(value):
        return "-"
    bounds = "interval unknown" if pd.isna(low) or pd.isna(high) else f"{pattern.format(low)} to {pattern.format(high)}"
    return f"{pattern.format(value)} ({bounds})"
