"""What each user of each arm was shown and did, summed from the tables of exposures and outcomes.

DuckDB sums, because it spills to disk: memory stays bounded whatever the number of rows. Inside it users,
requests and items are 64-bit hashes; only the few users that a report names are looked up again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import duckdb
import polars as pl

from contracts.bots import BotRuleConfig, mark_bot_days
from contracts.errors import UserError
from contracts.table_schema import Table
from contracts.tables import EXPOSURES, OUTCOMES

COUNTED: Final = ("impressions", "clicks", "orders", "gmv", "converted", "users")
"""What is summed per user; metrics are ratios of two of these."""
_EPOCH: Final = date(1970, 1, 1)
_MICROSECONDS_A_DAY: Final = 86_400_000_000
# Sums beyond this spill to disk; with Polars and the libraries the process stays below 2 GiB.
_MEMORY_LIMIT: Final = "900MB"
_NUM_THREADS: Final = 2
_NO_LIMIT: Final = 1e300
# Categories beyond the largest are too small to be compared.
_MAX_SLICES_A_KIND: Final = 8


class UserTotals(NamedTuple):
    """Sums per user, and what was noticed on the way to them."""

    users: pl.DataFrame
    """A row per user and arm: `user`, `arm`, the columns of `COUNTED`, `is_bot`."""
    duplicate_exposures: int
    """Rows that repeat a (request_id, item_id); each counts once."""
    duplicate_outcomes: int
    """The same of outcomes."""
    orders_without_revenue: dict[str, float]
    """Arm -> share of its orders whose revenue is zero or missing."""
    share_without_model: dict[str, float]
    """Arm -> share of what was shown that its ranker did not score; it counts for the arm all the same."""
    first_exposure: datetime
    last_exposure: datetime


class LiftTables:
    """The two tables of an experiment, open for sums. Use `open_lift_tables`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._copies = (0, 0)

    def sum_users(self, bots: BotRuleConfig) -> UserTotals:
        """Sums per user and arm, with the users who act like no shopper marked.

        Raises:
            UserError: a revenue is no amount, copies of a row contradict each other, or nothing was shown.
        """
        _refuse_wrong_revenue(self._connection)
        self._connection.execute(_SUM_ACTS)
        self._list_items()
        self._connection.execute(_SUM_REQUESTS)
        self._connection.execute(_SUM_USER_DAYS)
        self._connection.execute(_MARK_BOTS.format(is_bot_day=mark_bot_days(bots)))
        users = self._fetch_frame(_SUM_USERS).with_columns(users=pl.lit(1.0))
        return self._add_notes(users.with_columns(pl.col(COUNTED).cast(pl.Float64)))

    def find_user_ids(self, hashes: list[int]) -> dict[int, str]:
        """Names of a few users."""
        if not hashes:
            return {}
        query = "SELECT DISTINCT hash(user_id), user_id FROM exposures WHERE list_contains(?, hash(user_id))"
        return dict(self._connection.execute(query, [hashes]).fetchall())

    def sum_moments(self, kind: str, caps: Mapping[str, float]) -> pl.DataFrame:
        """Moments of the users' sums, by arm and by day or slice.

        Bots and users of several arms are left out.

        Args:
            kind: `day`, `scene`, `category`, `degraded` or `new_user`.
            caps: impressions, clicks, orders, gmv -> the most that one user counts for.

        Returns:
            A row per arm and `part` of the kind: `num_users`, and `mean_*` and `var_*` of the users' capped
            clicks, orders, gmv, converted, weight and weighted_clicks, and `cov` of the last two.
        """
        limits = {name: min(cap, _NO_LIMIT) for name, cap in caps.items()}
        capped = {name: f"least(sum({name}), {limits[name]!r})" for name in ("clicks", "orders", "gmv")}
        weight = f"least(sum(impressions), {limits['impressions']!r})"
        table, part = ("user_days", "day") if kind == "day" else ("requests", _SLICES[kind])
        # Only numbers and constants of this module enter the text.
        query = f"""
            WITH parts AS (
                SELECT sums.u, sums.a, {part} AS part, {weight} AS weight,
                    sum(clicks) * {weight} / sum(impressions) AS weighted_clicks,
                    {capped["clicks"]} AS clicks, {capped["orders"]} AS orders, {capped["gmv"]} AS gmv,
                    (sum(orders) > 0)::INTEGER AS converted
                FROM {table} AS sums SEMI JOIN comparable_users AS kept ON sums.u = kept.u
                WHERE {part} IS NOT NULL GROUP BY sums.u, sums.a, {part})
            SELECT arms.arm, part, count(*) AS num_users, {_MOMENTS}
            FROM parts JOIN arms ON parts.a = arms.a GROUP BY arms.arm, part ORDER BY part, arms.arm"""  # noqa: S608
        moments_table = self._fetch_frame(query)
        if kind == "day":
            return moments_table.with_columns(
                part=(pl.lit(_EPOCH) + pl.duration(days=pl.col("part"))).cast(pl.Date).cast(pl.String)
            )
        largest = (
            moments_table.group_by("part")
            .agg(pl.col("num_users").sum())
            .top_k(_MAX_SLICES_A_KIND, by="num_users")
        )
        return moments_table.join(largest.select("part"), on="part", how="semi").sort("part", "arm")

    def _list_items(self) -> None:
        """Makes `items`, one row per shown item; copies are looked for first, since few logs hold any."""
        acts_copies, num_amounts = self._fetch_row(
            "SELECT coalesce(sum(copies - 1), 0)::BIGINT,"
            " count(*) FILTER (revenue IS DISTINCT FROM least_revenue) FROM acts"
        )
        if num_amounts:
            raise UserError(
                f"{num_amounts} outcome(s) (request_id, item_id) are told more than once, with different "
                "revenue; sum the orders of a shown item into one row"
            )
        (copies,) = self._fetch_row(
            "SELECT count(*) - count(DISTINCT hash(request_id, item_id)) FROM exposures"
        )
        self._copies = (copies, acts_copies)
        shown_items = _SHOWN_ITEMS
        if copies:
            self._connection.execute(_FIND_COPIES)
            (num_owners,) = self._fetch_row(
                "SELECT count(*) FILTER (u <> other_u OR a <> other_a) FROM first_copies"
            )
            if num_owners:
                raise UserError(
                    f"{num_owners} exposure(s) (request_id, item_id) are told more than once, of different "
                    "users or arms; a request belongs to one user and one arm: export the exposures anew"
                )
            shown_items = "first_copies"
        self._connection.execute(_LIST_ITEMS.format(shown_items=shown_items))

    def _fetch_row(self, query: str) -> tuple[int, ...]:
        row: tuple[int, ...] = self._connection.execute(query).fetchall()[0]
        return row

    def _add_notes(self, users: pl.DataFrame) -> UserTotals:
        first_micros, last_micros = self._fetch_row("SELECT min(micros), max(last_micros) FROM requests")
        arm_notes = self._connection.execute(_COUNT_ARM_NOTES).fetchall()
        return UserTotals(
            users=users,
            duplicate_exposures=self._copies[0],
            duplicate_outcomes=self._copies[1],
            orders_without_revenue={arm: without_revenue for arm, without_revenue, _ in arm_notes},
            share_without_model={arm: without_model for arm, _, without_model in arm_notes},
            first_exposure=_to_time(first_micros),
            last_exposure=_to_time(last_micros),
        )

    def _fetch_frame(self, query: str) -> pl.DataFrame:
        return pl.DataFrame(self._connection.sql(query).to_arrow_table())


@contextmanager
def open_lift_tables(exposures: Path, outcomes: Path) -> Iterator[LiftTables]:
    """Opens the tables EXPOSURES and OUTCOMES (Parquet) for sums.

    Raises:
        UserError: a table is missing, malformed or empty.
    """
    for path, table in ((exposures, EXPOSURES), (outcomes, OUTCOMES)):
        _check_columns(path, table)
    with TemporaryDirectory(prefix="reaseq-lift-") as spill_folder:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY_LIMIT,
            "threads": _NUM_THREADS,
            "temp_directory": spill_folder,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(str(Path(spill_folder) / "sums.duckdb"), config=settings) as connection:
            for name, path in (("exposures", exposures), ("outcomes", outcomes)):
                connection.read_parquet(str(path)).create_view(name)
            arms = connection.execute("SELECT DISTINCT arm FROM exposures WHERE arm IS NOT NULL").fetchall()
            if not arms:
                raise UserError(f"{exposures} holds no exposure; send requests to the gateway first")
            arm_names = sorted(arm for (arm,) in arms)
            arms_table = pl.DataFrame({"a": range(len(arm_names)), "arm": arm_names})
            connection.register("arm_frame", arms_table.to_arrow())
            connection.execute("CREATE TABLE arms AS SELECT a::UTINYINT AS a, arm FROM arm_frame")
            yield LiftTables(connection)


def _check_columns(path: Path, table: Table) -> None:
    if not path.is_file():
        raise UserError(f"no table '{table.name}' at {path}; the gateway's log or the simulator writes it.")
    if pl.scan_parquet(path).collect_schema() != table.schema:
        raise UserError(f"{path} is not a table '{table.name}'; its columns are {', '.join(table.schema)}.")


def _refuse_wrong_revenue(connection: duckdb.DuckDBPyConnection) -> None:
    num_nan, num_infinite, num_negative = connection.execute(
        "SELECT count(*) FILTER (isnan(revenue)), count(*) FILTER (isinf(revenue)),"
        " count(*) FILTER (revenue < 0 AND NOT isinf(revenue)) FROM outcomes"
    ).fetchall()[0]
    counts = {"NaN": num_nan, "infinite": num_infinite, "negative": num_negative}
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    if found:
        raise UserError(
            f"outcomes hold revenue that is no amount: {found}. Write 0 where nothing was ordered, null "
            "where the price of an order is not known, and net a return against its order"
        )


def _to_time(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


_SHOWN_ITEMS: Final = """(
    SELECT hash(request_id) AS r, hash(item_id) AS i, hash(user_id) AS u, arms.a AS a,
        epoch_us(timestamp) AS micros, model_version <> routed_version AS by_other,
        len(degraded) > 0 AS degraded, list_contains(degraded, 'no_history') AS no_history, scene,
        trim(split_part(page_category, '>', 1)) AS category
    FROM exposures JOIN arms USING (arm)
)"""
_FIND_COPIES: Final = f"""
CREATE TABLE first_copies AS
SELECT r, i, min(u) AS u, max(u) AS other_u, min(a) AS a, max(a) AS other_a, min(micros) AS micros,
    bool_or(by_other) AS by_other, bool_or(degraded) AS degraded, bool_or(no_history) AS no_history,
    any_value(scene) AS scene, any_value(category) AS category
FROM {_SHOWN_ITEMS} GROUP BY r, i
"""  # noqa: S608
# Most of what is shown is left alone: only what was acted on is joined.
_SUM_ACTS: Final = """
CREATE TABLE acts AS
SELECT hash(request_id) AS r, hash(item_id) AS i, count(*) AS copies, bool_or(click) AS click,
    bool_or("order") AS ordered, max(revenue) AS revenue, min(revenue) AS least_revenue
FROM outcomes WHERE click OR "order" OR revenue <> 0 GROUP BY ALL
"""
_LIST_ITEMS: Final = """
CREATE VIEW items AS
SELECT shown.*, coalesce(click, false) AS click, coalesce(ordered, false) AS ordered, revenue
FROM {shown_items} AS shown LEFT JOIN acts ON shown.r = acts.r AND shown.i = acts.i
"""
_SUM_REQUESTS: Final = f"""
CREATE TABLE requests AS
SELECT u, a, r, min(micros) AS micros, max(micros) AS last_micros,
    min(micros) // {_MICROSECONDS_A_DAY} AS day, count(*) AS impressions,
    count(*) FILTER (click) AS clicks, count(*) FILTER (ordered) AS orders,
    coalesce(sum(revenue), 0) AS gmv,
    count(*) FILTER (ordered AND coalesce(revenue, 0) = 0) AS orders_without_revenue,
    count(*) FILTER (by_other) AS impressions_without_model,
    bool_or(degraded AND NOT no_history) AS degraded, bool_or(no_history) AS no_history,
    any_value(scene) AS scene, any_value(category) AS category
FROM items GROUP BY u, a, r
"""  # noqa: S608
# A user counts as having ordered once, however often.
_TOTALS: Final = {
    "impressions": "sum(impressions)",
    "clicks": "sum(clicks)",
    "orders": "sum(orders)",
    "gmv": "sum(gmv)",
    "converted": "(sum(orders) > 0)::INTEGER",
}
_MOMENTS: Final = (
    ", ".join(
        f"avg({name}) AS mean_{name}, var_samp({name}) AS var_{name}"
        for name in ("clicks", "orders", "gmv", "converted", "weight", "weighted_clicks")
    )
    + ", covar_samp(weighted_clicks, weight) AS cov"
)
_SUM_USER_DAYS: Final = """
CREATE TABLE user_days AS
SELECT u, a, day, count(*) AS requests, sum(impressions) AS impressions, sum(clicks) AS clicks,
    sum(orders) AS orders, sum(gmv) AS gmv
FROM requests GROUP BY u, a, day
"""
_MARK_BOTS: Final = """
CREATE TABLE bots AS SELECT DISTINCT u FROM (
    SELECT u, day, sum(requests) AS num_requests, sum(impressions) AS num_impressions,
        sum(clicks) AS num_clicks, sum(clicks) AS num_clicked_items
    FROM user_days GROUP BY u, day)
WHERE {is_bot_day};
CREATE TABLE comparable_users AS
SELECT u FROM user_days WHERE u NOT IN (SELECT u FROM bots) GROUP BY u HAVING count(DISTINCT a) = 1
"""
_SUM_USERS: Final = f"""
SELECT totals.u AS user, arm, {", ".join(_TOTALS)}, bots.u IS NOT NULL AS is_bot
FROM (SELECT u, a, {", ".join(f"{total} AS {name}" for name, total in _TOTALS.items())}
      FROM user_days GROUP BY u, a) AS totals
JOIN arms USING (a) LEFT JOIN bots USING (u)
ORDER BY arm, user
"""  # noqa: S608
_COUNT_ARM_NOTES: Final = """
SELECT arm, coalesce(sum(orders_without_revenue) / nullif(sum(orders), 0), 0),
    sum(impressions_without_model) / sum(impressions)
FROM requests JOIN arms USING (a) GROUP BY arm ORDER BY arm
"""
_SLICES: Final = {
    "scene": "scene",
    "category": "category",
    "degraded": "CASE WHEN degraded THEN 'degraded' ELSE 'whole' END",
    "new_user": "CASE WHEN no_history THEN 'new user' ELSE 'known user' END",
}
SLICE_KINDS: Final = tuple(_SLICES)
