"""Charts as SVG text, for a page that needs no script and no network. All text is escaped."""

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from typing import Final

from monitoring.dashboard.dashboard_content import Interval, format_interval

_WIDTH: Final = 640
_COLORS: Final = (
    "#1f5f8b",
    "#c0562d",
    "#3f7d4e",
    "#7a4e9c",
    "#9c7a1d",
    "#2f8f8a",
    "#a8324e",
    "#5b6770",
    "#8a5a2b",
    "#4e63b5",
    "#6f9c3a",
    "#b55a9c",
)
_TEXT: Final = 'font-family="sans-serif" font-size="12"'


def draw_forest(rows: Sequence[tuple[str, Interval]], *, title: str) -> str:
    """A forest plot of relative lifts: a dot and its interval a row, against the line of no difference."""
    known = [bound for _, lift in rows for bound in (lift.value, lift.low, lift.high) if bound is not None]
    reach = max([abs(bound) for bound in known] + [0.01]) * 1.1
    left, right, row_height = 200, 110, 28
    height = row_height * len(rows) + 40

    def place(value: float) -> float:
        return left + (value + reach) / (2 * reach) * (_WIDTH - left - right)

    parts = [
        f'<line x1="{place(0):.1f}" x2="{place(0):.1f}" y1="8" y2="{height - 28}" stroke="#888" '
        'stroke-dasharray="4 3"/>'
    ]
    for number, (name, lift) in enumerate(rows):
        y = 22 + number * row_height
        parts.append(f'<text x="4" y="{y + 4}" {_TEXT}>{escape(name)}</text>')
        if lift.value is None:
            continue
        low, high = (bound if bound is not None else lift.value for bound in (lift.low, lift.high))
        color = "#3f7d4e" if low > 0 else "#a8324e" if high < 0 else "#5b6770"
        parts.append(
            f'<line x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{y}" y2="{y}" stroke="{color}" '
            f'stroke-width="3"/><circle cx="{place(lift.value):.1f}" cy="{y}" r="5" fill="{color}"/>'
            f'<text x="{_WIDTH - right + 8}" y="{y + 4}" {_TEXT}>{format_interval(lift)}</text>'
        )
    parts += [
        f'<text x="{place(value):.1f}" y="{height - 8}" text-anchor="middle" {_TEXT}>{value:+.0%}</text>'
        for value in (-reach / 1.1, 0.0, reach / 1.1)
    ]
    return _frame(parts, height, title, width=_WIDTH + 60)


def draw_lines(lines: Mapping[str, Mapping[date, float]], *, title: str, mark: float | None = None) -> str:
    """Lines over days, with a dot a day; `mark` is a dashed line across."""
    days = sorted({day for line in lines.values() for day in line})
    values = [value for line in lines.values() for value in line.values()] + ([] if mark is None else [mark])
    lowest, highest = min([*values, 0.0]), max([*values, 0.0])
    span = (highest - lowest) or 1.0
    left, top, bottom = 56, 12, 200
    legend_height = 18 * len(lines)
    height = bottom + 34 + legend_height

    def place(day: date, value: float) -> tuple[float, float]:
        x = left + (days.index(day) + 0.5) / len(days) * (_WIDTH - left - 12)
        return x, bottom - (value - lowest) / span * (bottom - top)

    parts = []
    for share in (0.0, 0.5, 1.0):
        value = lowest + share * span
        y = bottom - share * (bottom - top)
        parts.append(
            f'<line x1="{left}" x2="{_WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" {_TEXT}>{value:.3g}</text>'
        )
    if mark is not None:
        y = place(days[0], mark)[1]
        parts.append(
            f'<line x1="{left}" x2="{_WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="#a8324e" '
            'stroke-dasharray="6 4"/>'
        )
    step = max(1, len(days) // 7)
    parts += [
        f'<text x="{place(day, lowest)[0]:.1f}" y="{bottom + 18}" text-anchor="middle" {_TEXT}>'
        f"{day:%m-%d}</text>"
        for day in days[::step]
    ]
    for number, (name, line) in enumerate(lines.items()):
        color = _COLORS[number % len(_COLORS)]
        points = [place(day, value) for day, value in sorted(line.items())]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]
        y = bottom + 40 + 18 * number
        parts.append(
            f'<rect x="{left}" y="{y - 9}" width="12" height="10" fill="{color}"/>'
            f'<text x="{left + 18}" y="{y}" {_TEXT}>{escape(name)}</text>'
        )
    return _frame(parts, height, title)


def _frame(parts: Sequence[str], height: int, title: str, *, width: int = _WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )
