"""What the dashboard shows, gathered from the reports. Every field of theirs may be missing."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final

import polars as pl

from contracts.artifacts import read_lineage
from contracts.errors import UserError
from monitoring.config import METRIC_TITLES
from monitoring.dashboard.service_figures import measure_service
from monitoring.decision_obstacles import describe_preference

QUALITY_TITLES: Final = {
    "calibration": "Clicks over promised clicks",
    "click_rate": "Click rate",
    "coverage": "Share of the catalogue shown",
    "effective_items": "Items that share the page views equally",
    "diversity": "Categories per place of a page",
    "cold_share": "Share of items younger than a week",
}
SERVICE_TITLES: Final = {
    "degraded": "Share of degraded rows",
    "without_score": "Share of rows that no ranker scored",
    "requests": "Requests",
    "new_users": "Share of new users",
}
CHART_TITLES: Final = {
    "Lift": "Lift over control by day",
    "Drift": "Distance from the reference by day (1: luck stays below)",
}
"""Tabs whose lines all share one chart."""
_UNKNOWN_SERVICE: Final = (
    "Latency and failures are not in this traffic: it was collected without the answers."
)
_MAX_LINES: Final = 12


@dataclass(frozen=True)
class Interval:
    """A lift with its interval; a bound that is not known is None."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class LiftLine:
    """One metric of one arm against the control."""

    title: str
    """The metric's name."""
    arm: str
    """With a note where it is another estimate than the one that decides."""
    users: int
    relative: Interval


@dataclass(frozen=True)
class DashboardContent:
    """Everything that is drawn."""

    label: str
    """Where the traffic came from."""
    action: str
    """`hold`, `promote` ..., with the arm."""
    reasons: list[str]
    """Why, one sentence each."""
    lifts: list[LiftLine]
    """Of the whole experiment."""
    findings: list[str]
    """What has drifted, one sentence each."""
    drift_text: str
    """What was compared with what."""
    series: dict[str, dict[str, dict[date, float]]]
    """Tab -> line -> day -> value; tabs Lift, Drift, Quality, Service."""
    lineage: list[tuple[str, str, str]]
    """Artifact, digest, names and versions."""
    slices: list[LiftLine] = field(default_factory=list)
    """Of parts of the traffic; the part stands where else the arm does. Nothing is decided by them."""
    notes: list[str] = field(default_factory=list)
    """What one should know of the lifts, one sentence each."""
    moments: dict[date, datetime] = field(default_factory=dict)
    """Day -> its time stamp."""
    shared_charts: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Tab -> title -> lines that share one chart; any other line has its own."""
    service_notes: list[str] = field(default_factory=list)
    """How requests were answered, one sentence each."""

    def list_charts(self, tab: str) -> dict[str, list[str]]:
        """Title -> its lines, of one tab. None is empty."""
        shared = self.shared_charts.get(tab, {})
        grouped = {line for lines in shared.values() for line in lines}
        return {title: lines for title, lines in shared.items() if lines} | {
            line: [line] for line in self.series[tab] if line not in grouped
        }

    @property
    def days(self) -> list[date]:
        """Days that anything is known of."""
        return sorted({day for lines in self.series.values() for line in lines.values() for day in line})


def gather_content(traffic: Path, drift: Path, lift: Path, decision: Path) -> DashboardContent:
    """Reads the reports of one run of the monitor pipeline.

    Args:
        traffic: what `collect_traffic` wrote.
        drift: folder of the drift report.
        lift: folder of the lift report.
        decision: file of the decision.

    Raises:
        UserError: a report is missing or unreadable.
    """
    drift_results, lift_results = _read_json(drift / "drift.json"), _read_json(lift / "lift.json")
    verdict = _read_json(decision)
    arm = f" {verdict['arm']}" if verdict.get("arm") else ""
    series = {
        "Lift": _list_lift_series(lift_results),
        "Drift": _list_drift_series(drift_results),
        "Quality": _list_day_series(drift_results, QUALITY_TITLES),
        "Service": _list_day_series(drift_results, SERVICE_TITLES) | _list_cause_series(drift_results),
    }
    shared_charts = {tab: {title: list(series[tab])} for tab, title in CHART_TITLES.items()}
    service = measure_service(traffic)
    if service is not None:
        # Every answer counts here, and not only the sampled rows of a drift report.
        new_users = SERVICE_TITLES["new_users"]
        series["Service"] = {
            _name_line(title, line): values
            for title, lines in service.charts.items()
            for line, values in lines.items()
        } | {title: line for title, line in series["Service"].items() if title == new_users}
        shared_charts["Service"] = {
            title: [_name_line(title, line) for line in lines] for title, lines in service.charts.items()
        }
    content = DashboardContent(
        label=str(lift_results.get("traffic", "")),
        action=f"{verdict.get('action', '?')}{arm}" + (", retrain" if verdict.get("retrain") else ""),
        reasons=[str(reason) for reason in verdict.get("reasons", [])],
        lifts=list(_list_lifts(lift_results)),
        findings=[str(reason) for reason in drift_results.get("reasons", [])],
        drift_text=_describe_windows(drift_results),
        series=series,
        lineage=list(_list_lineage(traffic)),
        slices=list(_list_slices(lift_results)),
        notes=list(_list_notes(lift_results)),
        shared_charts=shared_charts,
        service_notes=[_UNKNOWN_SERVICE] if service is None else service.notes,
    )
    content.moments.update({day: datetime.combine(day, time(23, 59, 59), UTC) for day in content.days})
    return content


def format_interval(lift: Interval) -> str:
    """`+5.0% [-1.0%, +11.0%]`; what is not known is a question mark."""
    value, low, high = (
        "?" if bound is None else f"{bound:+.1%}" for bound in (lift.value, lift.low, lift.high)
    )
    return f"{value} [{low}, {high}]"


def shorten_line(chart: str, line: str) -> str:
    """A line's name within its chart."""
    return line.removeprefix(f"{chart}: ")


def _name_line(chart: str, line: str) -> str:
    """Lines of several charts may have one name, and snapshots hold them side by side."""
    return f"{chart}: {line}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a report ({error}); run `reaseq report`") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a report: it holds a {type(content).__name__}")
    return content


def _read_interval(row: Mapping[str, Any]) -> Interval:
    """The interval that the decision rests on, where the report tells it."""
    bounds = row.get("deciding") or row.get("relative") or {}
    return Interval(bounds.get("value"), bounds.get("low"), bounds.get("high"))


def _list_lifts(lift_results: Mapping[str, Any]) -> Iterator[LiftLine]:
    for row in lift_results.get("rows", []):
        interval = _read_interval(row)
        if row.get("arm") == lift_results.get("control") or interval.value is None:
            continue
        title, users = _name_metric(lift_results, row), int(row.get("users") or 0)
        yield LiftLine(title, str(row["arm"]), users, interval)
        cuped = row.get("cuped") or {}
        if cuped.get("value") is not None and not row.get("is_decided_by_cuped"):
            adjusted = Interval(cuped["value"], cuped.get("low"), cuped.get("high"))
            yield LiftLine(title, f"{row['arm']}, with CUPED", users, adjusted)


def _list_slices(lift_results: Mapping[str, Any]) -> Iterator[LiftLine]:
    """The click-through rate of each slice, which says something soonest, and metrics of the user's own."""
    shown = {"ctr", *(lift_results.get("titles") or {})} - (METRIC_TITLES.keys() - {"ctr"})
    for row in lift_results.get("by_slice") or []:
        interval = _read_interval(row)
        if row.get("metric") in shown and interval.value is not None:
            part = f"{row['kind'].replace('_', ' ')} {row['slice']}: {row['arm']}"
            yield LiftLine(_name_metric(lift_results, row), part, int(row.get("users") or 0), interval)


def _list_notes(lift_results: Mapping[str, Any]) -> Iterator[str]:
    without_price = {
        arm: count for arm, count in (lift_results.get("orders_without_price") or {}).items() if count
    }
    if without_price:
        counts = ", ".join(f"{arm} {count:,}" for arm, count in without_price.items())
        yield f"Orders that came without a price, and count at the catalogue's: {counts}."
    if lift_results.get("interleaving"):
        yield f"Shared pages: {describe_preference(lift_results['interleaving'])}."
    if lift_results.get("share_with_history") is not None:
        decides = (
            "decides" if lift_results.get("cuped") == "decides" else "stands beside, and decides nothing"
        )
        yield (
            f"{lift_results['share_with_history']:.0%} of the users have a history from before. "
            f"What they did then explains a part of what they do now (CUPED); that estimate {decides}."
        )


def _name_metric(lift_results: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    metric = str(row["metric"])
    titles = METRIC_TITLES | (lift_results.get("titles") or {})
    return str(titles.get(metric, metric))


def _list_lift_series(lift_results: Mapping[str, Any]) -> dict[str, dict[date, float]]:
    series: dict[str, dict[date, float]] = {}
    for row in lift_results.get("by_day") or []:
        value = _read_interval(row).value
        if value is not None:
            series.setdefault(f"{row['metric']} {row['arm']}", {})[
                date.fromisoformat(str(row["day"])[:10])
            ] = value
    return series


def _list_drift_series(drift_results: Mapping[str, Any]) -> dict[str, dict[date, float]]:
    """The columns that came closest to their thresholds, or beyond."""
    series: dict[str, dict[date, float]] = {}
    for row in drift_results.get("days") or []:
        for name, ratio in (row.get("drift") or {}).items():
            series.setdefault(str(name), {})[date.fromisoformat(row["day"])] = float(ratio)
    largest = sorted(series, key=lambda name: (-max(series[name].values()), name))[:_MAX_LINES]
    return {name: series[name] for name in largest}


def _list_day_series(
    drift_results: Mapping[str, Any], titles: Mapping[str, str]
) -> dict[str, dict[date, float]]:
    rows = drift_results.get("days") or []
    lines = {
        title: {date.fromisoformat(row["day"]): float(row[name]) for row in rows if row.get(name) is not None}
        for name, title in titles.items()
    }
    return {title: line for title, line in lines.items() if line}


def _list_cause_series(drift_results: Mapping[str, Any]) -> dict[str, dict[date, float]]:
    rows = drift_results.get("days") or []
    causes = sorted({cause for row in rows for cause in row.get("degraded_by") or {}})
    return {
        f"Degraded by {cause}": {
            date.fromisoformat(row["day"]): float((row.get("degraded_by") or {}).get(cause, 0.0))
            for row in rows
        }
        for cause in causes[:_MAX_LINES]
    }


def _describe_windows(drift_results: Mapping[str, Any]) -> str:
    parts = []
    for side in ("current", "reference"):
        window = drift_results.get(side) or {}
        if "first" in window:
            span = f"{str(window['first'])[:10]} to {str(window['last'])[:10]}"
            parts.append(f"{span} ({window.get('requests', 0):,} requests)")
    source = (drift_results.get("reference") or {}).get("text") or "the reference"
    return f"{' against '.join(parts)}; {source}" if parts else ""


def _list_lineage(traffic: Path) -> Iterator[tuple[str, str, str]]:
    """Rankers by arm, then every artifact that the traffic rests on."""
    exposures = pl.scan_parquet(traffic / "exposures.parquet")
    for arm, version in exposures.select("arm", "routed_version").unique().sort("arm").collect().iter_rows():
        yield f"ranker of arm {arm}", str(version)[:16], ""
    lineage = read_lineage(traffic)
    yield "traffic", lineage.digest, f"code {lineage.code_version}"
    for digest, parent in sorted(lineage.chain.items(), key=lambda pair: str(pair[1].get("created_at"))):
        labels = ", ".join(f"{name} {value}" for name, value in sorted(parent.get("labels", {}).items()))
        yield str(parent.get("kind")), digest, labels
