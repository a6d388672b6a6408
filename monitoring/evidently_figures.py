"""A named number as an Evidently metric, so that a dashboard draws a line of it over the days."""

from html import escape

from evidently.core.datasets import Dataset
from evidently.core.metric_types import SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.core.report import Context
from evidently.legacy.renderers.html_widgets import CounterData, counter


class NamedFigure(SingleValueMetric):  # type: ignore[misc]  # Evidently ships no types we follow
    """The number called `subject` in a table of subjects and values."""

    subject: str
    label: str


class NamedFigureCalculation(SingleValueCalculation[NamedFigure]):  # type: ignore[misc]
    """Computes `NamedFigure`."""

    def calculate(
        self,
        context: Context,  # noqa: ARG002
        current_data: Dataset,
        reference_data: Dataset | None,  # noqa: ARG002
    ) -> SingleValue:
        """Reads the number from the table."""
        table = current_data.as_dataframe()
        value = float(table.loc[table["subject"] == self.metric.subject, "value"].iloc[0])
        result = self.result(value)
        counters = [CounterData.float(escape(self.metric.label), value, 3)]
        result.widget = [counter(title=self.display_name(), counters=counters)]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        return escape(self.metric.subject)
