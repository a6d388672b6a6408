"""How requests were answered, by day and arm: how fast, how often not at all, and what was done without."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from contracts.artifacts import read_table
from contracts.tables import ANSWERS

ANSWERS_FILE: Final = "answers.parquet"
"""In the artifact `traffic`; older ones have none."""
_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
# More lines in one chart cannot be told apart.
_MAX_LINES: Final = 12
Lines = dict[str, dict[date, float]]
"""Line -> day -> value."""


class ServiceFigures(NamedTuple):
    """What the tab *Service* draws and says."""

    charts: dict[str, Lines]
    """Title -> its lines, none of them empty."""
    notes: list[str]
    """One sentence each."""


def measure_service(traffic: Path) -> ServiceFigures | None:
    """The figures of the collected traffic; None where an older step collected it.

    Args:
        traffic: what `collect_traffic` wrote.
    """
    if not (traffic / ANSWERS_FILE).is_file():
        return None
    answers = read_table(traffic / ANSWERS_FILE, ANSWERS).with_columns(day=pl.col("timestamp").dt.date())
    if answers.is_empty():
        return None
    answered = answers.filter(pl.col("failure").is_null())
    timed = answered.filter(pl.col("latency_ms").is_not_null())
    charts = {
        f"Milliseconds to the answer: {arm}": _list_quantile_lines(timed.filter(arm=arm))
        for arm in timed["arm"].unique().sort()
    }
    charts["Failed requests by cause (share)"] = _list_share_lines(answers, "failure", "none failed")
    charts["Degraded answers by cause (share)"] = _list_share_lines(
        answered.explode("degraded"), "degraded", "none degraded", of=answered
    )
    charts["Requests"] = _collect_lines(
        answers.group_by("arm", "day").agg(value=pl.len()).sort("arm", "day").iter_rows(named=True),
        name="{arm}",
    )
    return ServiceFigures(
        {title: lines for title, lines in charts.items() if lines},
        list(_describe_service(answers, num_answered=len(answered), num_timed=len(timed))),
    )


def _list_quantile_lines(timed: pl.DataFrame) -> Lines:
    by_day = timed.group_by("day").agg(
        pl.col("latency_ms").quantile(share, "linear").alias(name) for name, share in _QUANTILES.items()
    )
    return {name: dict(by_day.sort("day").select("day", name).iter_rows()) for name in _QUANTILES}


def _list_share_lines(rows: pl.DataFrame, column: str, nothing: str, of: pl.DataFrame | None = None) -> Lines:
    """Share of the answers that a cause was met in, by day; a line per arm and cause.

    An arm in which nothing was met has a line at 0: the chart says so, and is not empty.

    Args:
        rows: an answer per row, or several for one with several causes.
        column: the cause.
        nothing: what the line at 0 is called.
        of: the answers, where `rows` has several for one.
    """
    totals = (rows if of is None else of).group_by("arm", "day").agg(total=pl.len())
    causes = rows.drop_nulls(column).select("arm", cause=column).unique()
    quiet_arms = totals.select("arm").unique().join(causes, on="arm", how="anti")
    met = rows.group_by("arm", "day", cause=column).agg(met=pl.len()).drop_nulls("cause")
    shares = (
        pl.concat([causes, quiet_arms.with_columns(cause=pl.lit(nothing))])
        .join(totals, on="arm")
        .join(met, on=["arm", "day", "cause"], how="left")
        .with_columns(value=pl.col("met").fill_null(0) / pl.col("total"))
        .sort("arm", "cause", "day")
    )
    lines = _collect_lines(shares.iter_rows(named=True), name="{arm}: {cause}")
    largest = sorted(lines, key=lambda name: (-max(lines[name].values()), name))[:_MAX_LINES]
    return {name: lines[name] for name in largest}


def _collect_lines(rows: Iterator[dict[str, Any]], *, name: str) -> Lines:
    lines: Lines = {}
    for row in rows:
        lines.setdefault(name.format(**row), {})[row["day"]] = float(row["value"])
    return lines


def _describe_service(answers: pl.DataFrame, *, num_answered: int, num_timed: int) -> Iterator[str]:
    failures = answers["failure"].drop_nulls().value_counts(sort=True).rows()
    num_failed = len(answers) - num_answered
    yield f"{len(answers):,} requests, {num_failed:,} of them failed{_list_causes(failures)}."
    if not num_timed:
        yield "Latency is not in the log: the gateway that wrote it did not tell it yet."
    elif num_timed < num_answered:
        yield f"Latency is in the log for {num_timed:,} of {num_answered:,} answers; the others are older."
    if num_timed:
        yield "Latency is time in the gateway, from a request to its logged answer."
    yield "Live figures, and requests that were refused at the door, are in Grafana."


def _list_causes(failures: Sequence[tuple[str, int]]) -> str:
    return f" ({', '.join(f'{count:,} {cause}' for cause, count in failures)})" if failures else ""
