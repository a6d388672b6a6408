"""What a run made, on the screen: tables on a terminal, plain aligned text elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from contracts.artifacts import read_lineage
from models.ranker.evaluation.list_counts import describe_list_counts, read_list_counts

_NUM_FIGURES = 6


def print_artifacts(artifacts: Mapping[str, Path]) -> None:
    """Prints the artifacts of a run with their first figures."""
    table_rows = []
    for artifact_name, folder in artifacts.items():
        sorted_metrics = sorted(read_lineage(folder).metrics.items())
        # Names with a dot are of a slice or an agent: too many for a summary.
        figures = [
            f"{metric_name} {value:,.4g}" for metric_name, value in sorted_metrics if "." not in metric_name
        ]
        table_rows.append((artifact_name, ", ".join(figures[:_NUM_FIGURES])))
    print_table(("artifact", "figures"), table_rows)
    if "evaluation" in artifacts:
        # Slices of these lists are in the report.
        counts = read_list_counts(artifacts["evaluation"]).get("contemporaneous")
        if counts is not None:
            print(f"  sampled test lists: {describe_list_counts(counts)}")


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table whose last column may be long."""
    console = Console()
    if console.is_terminal:
        rich_table = Table(*headers)
        for row in rows:
            rich_table.add_row(*row)
        console.print(rich_table)
        return
    column_widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        padded_cells = [cell.ljust(width) for cell, width in zip(row, column_widths, strict=True)]
        print(f"  {'  '.join(padded_cells)}".rstrip())


def print_evaluation(evaluation: Path) -> None:
    """Prints the evaluation's report."""
    report_text = (evaluation / "report.md").read_text(encoding="utf-8")
    console = Console()
    if console.is_terminal:
        console.print(Markdown(report_text))
    else:
        print("\n" + report_text)
