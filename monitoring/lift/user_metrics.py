"""SQL of metrics of the user's own, and of what users did before the experiment.

Names come from the configuration, which allows letters, digits and underscores only; amounts are numbers.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

import polars as pl

from contracts.duckdb_connection import open_duckdb
from monitoring.config import MetricConfig
from monitoring.lift.outlier_users import name_denominator, name_numerator

_NO_LIMIT: Final = 1e300
# What happened to shown items, as events, where no table of events is at hand.
DERIVE_EVENTS: Final = """
CREATE VIEW acts_of_users AS
SELECT u, r, i, 'click' AS event_type, micros, NULL::DOUBLE AS price, 1 AS kept, 0 AS returned
FROM items WHERE click
UNION ALL
SELECT u, r, i, 'order', micros, revenue, 1, 0 FROM items WHERE ordered
"""
READ_EVENTS: Final = """
CREATE VIEW acts_of_users AS
SELECT hash(user_id) AS u, CASE WHEN request_id IS NOT NULL THEN hash(request_id) END AS r,
    hash(item_id) AS i, event_type, epoch_us(timestamp) AS micros, price,
    coalesce(quantity, 1) - coalesce(returned, 0) AS kept, coalesce(returned, 0) AS returned
FROM events
"""
READ_HISTORY: Final = """
CREATE TABLE past_acts AS
SELECT hash(user_id) AS u, event_type, price, hash(item_id) AS i,
    coalesce(quantity, 1) - coalesce(returned, 0) AS kept, coalesce(returned, 0) AS returned
FROM history WHERE epoch_us(timestamp) >= $since AND epoch_us(timestamp) < $until
"""


def build_metric_sums(metrics: Sequence[MetricConfig]) -> str:
    """A row per user `u` who did anything since their first page, a column per part of a metric."""
    columns = _list_columns(metrics)
    return f"""
        SELECT acts.u AS user, {", ".join(columns)}
        FROM acts_of_users AS acts JOIN (SELECT u, min(micros) AS first FROM requests GROUP BY u) AS shown
        ON acts.u = shown.u AND acts.micros >= shown.first GROUP BY acts.u"""  # noqa: S608


def build_part_sums(metrics: Sequence[MetricConfig], *, part: str, joined: str) -> str:
    """The same by user `u` and `part`, a day or a slice.

    Args:
        metrics: what is counted.
        part: SQL of the part that an act belongs to.
        joined: SQL that joins what `part` reads to `acts`.
    """
    return f"""
        SELECT acts.u, {part} AS part, {", ".join(_list_columns(metrics))}
        FROM acts_of_users AS acts JOIN (SELECT u, min(micros) AS first FROM requests GROUP BY u) AS shown
        ON acts.u = shown.u AND acts.micros >= shown.first {joined} GROUP BY ALL"""  # noqa: S608


def build_capped_values(metrics: Sequence[MetricConfig], caps: Mapping[str, float]) -> dict[str, str]:
    """Column -> SQL of a user's share in each metric, capped as `read_metric` caps it.

    `<name>.value` is the numerator; `<name>.weight` the denominator of what is not per user.
    """
    values: dict[str, str] = {}
    for metric in metrics:
        numerator = f'coalesce("{name_numerator(metric)}", 0)'
        cap = min(caps.get(name_numerator(metric), inf), _NO_LIMIT)
        if metric.per == "users":
            values[f"{metric.name}.value"] = f"least({numerator}, {cap!r})"
            continue
        column = "impressions" if metric.per == "exposures" else name_denominator(metric)
        denominator = f'coalesce("{column}", 0)'
        weight = f"least(1.0, {min(caps.get(column, inf), _NO_LIMIT)!r} / greatest({denominator}, 1e-300))"
        limit = cap if metric.measure == "price" else _NO_LIMIT
        values[f"{metric.name}.value"] = f"least({numerator} * {weight}, {limit!r})"
        values[f"{metric.name}.weight"] = f"{denominator} * {weight}"
    return values


def build_own_moments(metrics: Sequence[MetricConfig]) -> list[str]:
    """SQL of the moments of what `build_capped_values` names."""
    moments: list[str] = []
    for metric in metrics:
        names = [f"{metric.name}.value"] + ([f"{metric.name}.weight"] if metric.per != "users" else [])
        for name in names:
            moments += [f'avg("{name}") AS "mean_{name}"', f'var_samp("{name}") AS "var_{name}"']
        if metric.per != "users":
            moments.append(
                f'covar_samp("{metric.name}.value", "{metric.name}.weight") AS "cov_{metric.name}"'
            )
    return moments


def sum_log_metrics(acts: pl.DataFrame, metrics: Sequence[MetricConfig]) -> pl.DataFrame:
    """A row per `user_id` of a part of a log (EVENTS), a column per part of a metric."""
    with open_duckdb() as connection:
        connection.register("log", acts.to_arrow())
        sums = connection.sql(
            f"""SELECT user_id, {", ".join(_list_columns(metrics))} FROM (
                SELECT user_id, event_type, price, coalesce(quantity, 1) - coalesce(returned, 0) AS kept,
                    coalesce(returned, 0) AS returned FROM log) GROUP BY user_id"""  # noqa: S608
        ).to_arrow_table()
    return pl.DataFrame(sums).with_columns(pl.all().exclude("user_id").cast(pl.Float64))


def build_history_sums(metrics: Sequence[MetricConfig]) -> str:
    """A row per user `u` of the experiment who did anything before it, with the columns of user totals."""
    columns = [
        "count(*) FILTER (event_type = 'impression') AS impressions",
        "count(*) FILTER (event_type = 'click') AS clicks",
        "count(*) FILTER (event_type = 'order' AND kept > 0) AS orders",
        "coalesce(sum(price * kept) FILTER (event_type = 'order' AND kept > 0), 0) AS gmv",
        "(count(*) FILTER (event_type = 'order' AND kept > 0) > 0)::INTEGER AS converted",
        *_list_columns(metrics),
    ]
    return f"""
        SELECT u AS user, {", ".join(columns)} FROM past_acts
        WHERE u IN (SELECT u FROM user_days) GROUP BY u"""  # noqa: S608


def _list_columns(metrics: Sequence[MetricConfig]) -> list[str]:
    columns: list[str] = []
    for metric in metrics:
        columns.append(f'{_sum_event(metric)} AS "{name_numerator(metric)}"')
        if metric.per not in ("users", "exposures"):
            # Per order means per order that was made: what came back whole is one of those, too.
            is_base = "event_type = 'order'" if metric.per == "order" else _is_event(metric.per)
            columns.append(f'count(*) FILTER ({is_base}) AS "{name_denominator(metric)}"')
    return columns


def _sum_event(metric: MetricConfig) -> str:
    conditions = [_is_event(metric.event)]
    if metric.min_price is not None:
        conditions.append(f"price >= {metric.min_price!r}")
    if metric.max_price is not None:
        conditions.append(f"price < {metric.max_price!r}")
    condition = " AND ".join(conditions)
    if metric.measure == "count":
        return f"count(*) FILTER ({condition})"
    units = "returned" if metric.event == "return" else "kept"
    return f"coalesce(sum(price * {units}) FILTER ({condition}), 0)"


def _is_event(event: str) -> str:
    if event == "order":
        return "event_type = 'order' AND kept > 0"
    if event == "return":
        return "event_type = 'order' AND returned > 0"
    return f"event_type = '{event}'"
