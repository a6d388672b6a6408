"""What has drifted, in words: which column, where, by how much, and which step of the pipeline to look at."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from monitoring.drift.aa_windows import CALIBRATION, CONCENTRATION, EMBEDDING, Comparison
from monitoring.drift.drift_columns import DriftColumn

EVERYWHERE: Final = "everywhere"
_ORDER_OF_STEPS: Final = (
    "requests",
    "ingest",
    "embed_items",
    "infer_behaviors",
    "materialize_features",
    "train_ranker",
    "serving",
)
"""Upstream first: what comes from further up explains what lies below."""
_MIXES: Final = ("category", "scene", "is_new_user")
"""Columns whose change moves the others along, since the slices differ."""
_OWN_COLUMNS: Final = (
    DriftColumn(EMBEDDING, "number", "item vectors", "embed_items"),
    DriftColumn(CALIBRATION, "number", "clicks against promised clicks", "train_ranker"),
    DriftColumn(CONCENTRATION, "number", "number of items that share the page views", "train_ranker"),
)


class DriftFinding(NamedTuple):
    """One column that has drifted."""

    column: str
    aspect: str
    """`values` or `missing`."""
    step: str
    """Step of the pipeline that it comes from."""
    slices: list[str]
    """Where: slices, or `everywhere`."""
    distance: float
    """Of the whole window, or of the slice that moved most."""
    threshold: float
    """What A/A windows stay below."""
    follows_from: str | None
    """A column whose changed mix explains it."""
    sentence: str
    """All of it in words."""


def list_findings(
    comparisons: Sequence[Comparison],
    columns: Sequence[DriftColumn],
    windows: tuple[pl.DataFrame, pl.DataFrame],
) -> list[DriftFinding]:
    """The drifted columns, what lies upstream first."""
    known = {column.name: column for column in (*columns, *_OWN_COLUMNS)}
    by_subject: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in comparisons:
        by_subject.setdefault((comparison.column, comparison.aspect), []).append(comparison)
    drifted_mixes = [
        name
        for name in _MIXES
        for one in by_subject.get((name, "values"), [])
        if one.slice_name == "all" and one.drifted
    ]
    findings = [
        _describe_finding(known[column], aspect, group, drifted_mixes, windows)
        for (column, aspect), group in by_subject.items()
        if any(one.drifted for one in group)
    ]
    return sorted(findings, key=lambda f: (f.follows_from is not None, _ORDER_OF_STEPS.index(f.step)))


def _describe_finding(
    column: DriftColumn,
    aspect: str,
    group: Sequence[Comparison],
    drifted_mixes: Sequence[str],
    windows: tuple[pl.DataFrame, pl.DataFrame],
) -> DriftFinding:
    slices = name_slices(group)
    overall = group[0] if group[0].slice_name == "all" else None
    strongest = max(group, key=lambda one: one.distance / one.threshold)
    shown = overall if overall is not None and overall.drifted else strongest
    # Inside the slices nothing moved, and their shares did: the mix explains the whole.
    mixes = [mix for mix in drifted_mixes if mix != column.name]
    only_overall = not any(one.drifted for one in group if one.slice_name != "all") and len(group) > 1
    follows_from = mixes[0] if mixes and only_overall and aspect == "values" else None
    place = "" if slices == [EVERYWHERE] else f" in {', '.join(slices)}"
    change = "".join(_describe_change(column, aspect, slices, windows))
    cause = (
        f"; it follows from the change of {follows_from}"
        if follows_from
        else f"; look at {'who asks, and where' if column.step == 'requests' else column.step}"
    )
    what = f"{column.title} missing" if aspect == "missing" else column.title
    distances = f"distance {shown.distance:.2g}, luck stays below {shown.threshold:.2g}"
    sentence = f"{what}{place}: {change}{distances}{cause}."
    return DriftFinding(
        column.name, aspect, column.step, slices, shown.distance, shown.threshold, follows_from, sentence
    )


def name_slices(group: Sequence[Comparison]) -> list[str]:
    """The slices that drifted; `everywhere` where the whole did and no dimension was spared in part."""
    drifted = [one.slice_name for one in group if one.drifted and one.slice_name != "all"]
    dimensions: dict[str, list[Comparison]] = {}
    for one in group:
        if one.slice_name != "all":
            dimensions.setdefault(_name_dimension(one.slice_name), []).append(one)
    # A dimension tells where the change lies when some of its slices moved and others did not at all.
    telling: list[str] = []
    for parts in dimensions.values():
        moved = [one.slice_name for one in parts if one.drifted]
        largest = max((one.distance for one in parts), default=0.0)
        spared = [one for one in parts if not one.drifted and one.distance < largest / 3]
        if moved and len(moved) <= len(spared):
            telling += moved
    is_whole = any(one.drifted for one in group if one.slice_name == "all")
    return telling or ([EVERYWHERE] if is_whole else drifted)


def _name_dimension(slice_name: str) -> str:
    return "users" if slice_name.endswith(" users") else slice_name.partition(" ")[0]


def _describe_change(
    column: DriftColumn, aspect: str, slices: Sequence[str], windows: tuple[pl.DataFrame, pl.DataFrame]
) -> Iterator[str]:
    """From what to what, where a number or a category says it."""
    if column.name not in windows[0].columns:
        return
    frames = [_filter_slice(window, slices[0]) for window in windows]
    values = [frame[column.name] for frame in frames]
    if aspect == "missing":
        shares = [series.null_count() / max(len(series), 1) for series in values]
        yield f"{shares[0]:.1%} -> {shares[1]:.1%}, "
    elif column.kind == "flag":
        means = [series.drop_nulls().to_numpy() for series in values]
        yield " -> ".join(f"{mean.mean():.1%}" if len(mean) else "?" for mean in means) + ", "
    elif column.kind == "number" and column.name != EMBEDDING:
        present = [series.drop_nulls().to_numpy() for series in values]
        medians = [f"{np.median(numbers):.4g}" if len(numbers) else "?" for numbers in present]
        yield f"median {medians[0]} -> {medians[1]}, "
    elif column.kind == "category":
        shares_of = [dict(series.value_counts(normalize=True).iter_rows()) for series in values]
        labels = {label for shares in shares_of for label in shares if label is not None}
        if labels:
            moved = max(
                sorted(labels), key=lambda label: abs(shares_of[1].get(label, 0) - shares_of[0].get(label, 0))
            )
            yield f"{moved} {shares_of[0].get(moved, 0):.1%} -> {shares_of[1].get(moved, 0):.1%}, "


def _filter_slice(window: pl.DataFrame, slice_name: str) -> pl.DataFrame:
    if slice_name == EVERYWHERE:
        return window
    if slice_name.endswith(" users"):
        return window.filter(pl.col("is_new_user") == float(slice_name == "new users"))
    dimension, _, label = slice_name.partition(" ")
    return window.filter(pl.col(dimension) == label)
