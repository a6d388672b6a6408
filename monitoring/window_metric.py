"""The head of a drift report as an Evidently metric: which traffic, and how many rows of it."""

from html import escape

from evidently.core.datasets import Dataset
from evidently.core.metric_types import SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.core.report import Context
from evidently.legacy.renderers.html_widgets import CounterData, counter


class WindowRows(SingleValueMetric):  # type: ignore[misc]  # Evidently ships no types we follow
    """Number of rows compared in the current window of the traffic called `label`."""

    label: str


class WindowRowsCalculation(SingleValueCalculation[WindowRows]):  # type: ignore[misc]
    """Computes `WindowRows`."""

    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset) -> SingleValue:  # noqa: ARG002
        """Counts the rows of both windows."""
        current, reference = (data.stats().row_count for data in (current_data, reference_data))
        result = self.result(current)
        counters = [CounterData.int("current rows", current), CounterData.int("reference rows", reference)]
        result.widget = [counter(title=self.display_name(), counters=counters)]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        return escape(f"Drift: {self.metric.label}")
