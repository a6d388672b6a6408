"""What each user of each arm was shown and did, summed from the tables of exposures and outcomes.

DuckDB sums, because it spills to disk: memory stays bounded whatever the number of rows. Inside it users,
requests and items are 64-bit hashes; only the few users that a report names are looked up again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import duckdb
import polars as pl

from contracts.duckdb_connection import open_duckdb
from contracts.errors import UserError
from contracts.events.bots import BotRuleConfig, mark_bot_days
from contracts.table_schema import Table
from contracts.tables import EVENTS, EXPOSURES, OUTCOMES
from monitoring.config import MetricConfig, MonitoringConfig
from monitoring.lift.outlier_users import count_strays
from monitoring.lift.totals_queries import (
    COUNT_ARM_NOTES,
    FIND_COPIES,
    LIST_ITEMS,
    MARK_BOTS,
    MICROSECONDS_A_DAY,
    MOMENTS,
    SHOWN_ITEMS,
    SLICES,
    SUM_ACTS,
    SUM_ITEM_KINDS,
    SUM_REQUESTS,
    SUM_USER_DAYS,
    SUM_USERS,
)
from monitoring.lift.user_metrics import (
    DERIVE_EVENTS,
    READ_EVENTS,
    READ_HISTORY,
    build_capped_values,
    build_history_sums,
    build_metric_sums,
    build_own_moments,
    build_part_sums,
)

COUNTED: Final = ("impressions", "clicks", "orders", "gmv", "converted", "users")
"""What is summed per user; metrics are ratios of two of these."""
_EPOCH: Final = date(1970, 1, 1)
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
    orders_without_price: dict[str, int]
    """Arm -> orders that came without a price, and count at the catalogue's."""
    share_without_model: dict[str, float]
    """Arm -> share of what was shown that its ranker did not score; it counts for the arm all the same."""
    first_exposure: datetime
    """The few users who came first or last of all do not count here: one wrong clock makes no long test."""
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
        self._connection.execute(SUM_ACTS)
        self._list_items()
        self._connection.execute(SUM_REQUESTS)
        self._connection.execute(SUM_USER_DAYS)
        self._connection.execute(MARK_BOTS.format(is_bot_day=mark_bot_days(bots)))
        users = self._fetch_frame(SUM_USERS).with_columns(users=pl.lit(1.0))
        return self._add_notes(users.with_columns(pl.col(COUNTED).cast(pl.Float64)))

    def sum_metrics(self, metrics: Sequence[MetricConfig]) -> pl.DataFrame | None:
        """Sums of metrics of the user's own by `user`, after `sum_users`; None without any.

        Who did nothing of the kind has no row.
        """
        if not metrics:
            return None
        self._connection.execute(READ_EVENTS if self._has_table("events") else DERIVE_EVENTS)
        return self._fetch_sums(build_metric_sums(metrics))

    def sum_history(self, config: MonitoringConfig) -> pl.DataFrame | None:
        """What users did in the days before the experiment, as user totals; None where no history is given.

        Who did nothing has no row.
        """
        if not self._has_table("history"):
            return None
        first_micros, _ = self._find_span()
        since = first_micros - int(config.history_days * MICROSECONDS_A_DAY)
        self._connection.execute(READ_HISTORY, {"since": since, "until": first_micros})
        return self._fetch_sums(build_history_sums(config.metrics)).with_columns(users=pl.lit(1.0))

    def _fetch_sums(self, query: str) -> pl.DataFrame:
        return self._fetch_frame(query).with_columns(pl.all().exclude("user").cast(pl.Float64))

    def _has_table(self, name: str) -> bool:
        return bool(self._fetch_row(f"SELECT count(*) FROM duckdb_views() WHERE view_name = '{name}'")[0])  # noqa: S608

    def find_user_ids(self, hashes: list[int]) -> dict[int, str]:
        """Names of a few users."""
        if not hashes:
            return {}
        query = "SELECT DISTINCT hash(user_id), user_id FROM exposures WHERE list_contains(?, hash(user_id))"
        return dict(self._connection.execute(query, [hashes]).fetchall())

    def list_rankers(self) -> dict[str, str]:
        """Arm -> the version that most of its exposures were routed to."""
        counts = self._connection.execute(
            "SELECT arm, arg_max(routed_version, num_exposures) FROM (SELECT arm, routed_version, "
            "count(*) AS num_exposures FROM exposures WHERE arm IS NOT NULL AND routed_version IS NOT NULL "
            "GROUP BY arm, routed_version) GROUP BY arm"
        )
        return dict(counts.fetchall())

    def sum_moments(
        self, kind: str, caps: Mapping[str, float], metrics: Sequence[MetricConfig] = ()
    ) -> pl.DataFrame:
        """Moments of the users' sums, by arm and by day or slice.

        Bots and users of several arms are left out.

        Args:
            kind: `day`, `scene`, `category`, `degraded`, `new_user`, or `item` after `split_cold_items`.
            caps: column -> the most that one user counts for.
            metrics: metrics of the user's own, after `sum_metrics`. An act belongs to its day, to the item
                that it is of, and to the slice of the page that it names.

        Returns:
            A row per arm and `part` of the kind: `num_users`, and `mean_*` and `var_*` of the users' capped
            clicks, orders, gmv, converted, weight and weighted_clicks, and `cov` of the last two. Likewise
            `<metric>.value`, `<metric>.weight` and `cov_<metric>` of metrics of the user's own.
        """
        limits = {name: min(cap, _NO_LIMIT) for name, cap in caps.items()}
        capped = {name: f"least(sum({name}), {limits[name]!r})" for name in ("clicks", "orders", "gmv")}
        weight = f"least(sum(impressions), {limits['impressions']!r})"
        tables = {"day": ("user_days", "day"), "item": ("item_sums", "item_kind")}
        table, part = tables[kind] if kind in tables else ("requests", SLICES[kind])
        own_values = build_capped_values(metrics, caps)
        own_columns = "".join(f', {value} AS "{name}"' for name, value in own_values.items())
        act_part, joined = _find_act_part(kind)
        own_sums = (
            f"LEFT JOIN ({build_part_sums(metrics, part=act_part, joined=joined)}) AS own USING (u, part)"
        )
        # Only numbers, names that the configuration checked, and constants of this module enter the text.
        query = f"""
            WITH shown_parts AS (
                SELECT sums.u, sums.a, {part} AS part, sum(impressions) AS impressions, {weight} AS weight,
                    coalesce(sum(clicks) * {weight} / nullif(sum(impressions), 0), 0) AS weighted_clicks,
                    {capped["clicks"]} AS clicks, {capped["orders"]} AS orders, {capped["gmv"]} AS gmv,
                    (sum(orders) > 0)::INTEGER AS converted
                FROM {table} AS sums SEMI JOIN comparable_users AS kept ON sums.u = kept.u
                WHERE {part} IS NOT NULL GROUP BY sums.u, sums.a, {part}),
            parts AS (SELECT shown_parts.*{own_columns} FROM shown_parts {own_sums if metrics else ""})
            SELECT arms.arm, part, count(*) AS num_users, {", ".join([MOMENTS, *build_own_moments(metrics)])}
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

    def split_cold_items(self, config: MonitoringConfig) -> bool:
        """Splits the users' sums by whether an item was cold, after `sum_history`. False without a history.

        A user who saw no cold item has done nothing with any: they count, or the slice would only hold users
        whom a ranker chose to show some.
        """
        if not self._has_table("history"):
            return False
        self._connection.execute(SUM_ITEM_KINDS.format(cold_impressions=config.cold_impressions))
        return True

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
        shown_items = SHOWN_ITEMS
        if copies:
            self._connection.execute(FIND_COPIES)
            (num_owners,) = self._fetch_row(
                "SELECT count(*) FILTER (u <> other_u OR a <> other_a) FROM first_copies"
            )
            if num_owners:
                raise UserError(
                    f"{num_owners} exposure(s) (request_id, item_id) are told more than once, of different "
                    "users or arms; a request belongs to one user and one arm: export the exposures anew"
                )
            shown_items = "first_copies"
        self._connection.execute(LIST_ITEMS.format(shown_items=shown_items))

    def _find_span(self) -> tuple[int, int]:
        """Microseconds of the first and the last page, without the few users at either end."""
        (num_users,) = self._fetch_row("SELECT count(DISTINCT u) FROM requests")
        num_strays = count_strays(num_users)
        (first,), (last,) = (
            self._fetch_row(
                f"SELECT {moment} AS moment FROM requests GROUP BY u "  # noqa: S608
                f"ORDER BY moment {order} LIMIT 1 OFFSET {num_strays}"
            )
            for moment, order in (("min(micros)", "ASC"), ("max(last_micros)", "DESC"))
        )
        # Where nearly all users came at once, the two may pass each other.
        return first, max(first, last)

    def _fetch_row(self, query: str) -> tuple[int, ...]:
        row: tuple[int, ...] = self._connection.execute(query).fetchall()[0]
        return row

    def _add_notes(self, users: pl.DataFrame) -> UserTotals:
        first_micros, last_micros = self._find_span()
        arm_notes = self._connection.execute(COUNT_ARM_NOTES).fetchall()
        return UserTotals(
            users=users,
            duplicate_exposures=self._copies[0],
            duplicate_outcomes=self._copies[1],
            orders_without_revenue={arm: without_revenue for arm, without_revenue, _, _ in arm_notes},
            orders_without_price={arm: without_price for arm, _, without_price, _ in arm_notes},
            share_without_model={arm: without_model for arm, _, _, without_model in arm_notes},
            first_exposure=_to_time(first_micros),
            last_exposure=_to_time(last_micros),
        )

    def _fetch_frame(self, query: str) -> pl.DataFrame:
        return pl.DataFrame(self._connection.sql(query).to_arrow_table())


@contextmanager
def open_lift_tables(
    exposures: Path, outcomes: Path, *, events: Path | None = None, history: Path | None = None
) -> Iterator[LiftTables]:
    """Opens the tables EXPOSURES and OUTCOMES (Parquet) for sums.

    Args:
        exposures: what was shown.
        outcomes: what users did with it.
        events: all that users did meanwhile (EVENTS), for metrics of the user's own; without it these count
            clicks and orders of what was shown.
        history: what anybody did before (EVENTS).

    Raises:
        UserError: a table is missing, malformed or empty.
    """
    optional_tables = {name: path for name, path in (("events", events), ("history", history)) if path}
    checked = [
        (exposures, EXPOSURES),
        (outcomes, OUTCOMES),
        *((path, EVENTS) for path in optional_tables.values()),
    ]
    for path, table in checked:
        _check_columns(path, table)
    with TemporaryDirectory(prefix="reaseq-lift-") as spill_folder:
        connection = open_duckdb(
            database=Path(spill_folder) / "sums.duckdb",
            memory_limit=_MEMORY_LIMIT,
            scratch=Path(spill_folder),
            threads=_NUM_THREADS,
            preserve_order=False,
        )
        with connection:
            for name, path in {"exposures": exposures, "outcomes": outcomes, **optional_tables}.items():
                connection.read_parquet(str(path)).create_view(name)
            arms = connection.execute("SELECT DISTINCT arm FROM exposures WHERE arm IS NOT NULL").fetchall()
            if not arms:
                raise UserError(f"{exposures} holds no exposure; send requests to the gateway first")
            arm_names = sorted(arm for (arm,) in arms)
            arms_table = pl.DataFrame({"a": range(len(arm_names)), "arm": arm_names})
            connection.register("arm_frame", arms_table.to_arrow())
            connection.execute("CREATE TABLE arms AS SELECT a::UTINYINT AS a, arm FROM arm_frame")
            yield LiftTables(connection)


def _find_act_part(kind: str) -> tuple[str, str]:
    """SQL of the part that an act belongs to, and of what tells it."""
    if kind == "day":
        return f"acts.micros // {MICROSECONDS_A_DAY}", ""
    if kind == "item":
        known = "LEFT JOIN known_items ON acts.i = known_items.i"
        return "CASE WHEN known_items.i IS NULL THEN 'cold' ELSE 'known' END", known
    return SLICES[kind], "JOIN requests AS pages ON acts.r = pages.r AND acts.u = pages.u"


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
