"""Worlds with a right answer, as tables: each goes through the real report and the real rule."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.results import Row, make_row
from contracts.artifacts import write_json
from contracts.table_schema import Table
from contracts.tables import EXPOSURES, OUTCOMES
from monitoring.config import MonitoringConfig
from monitoring.decision_rule import Decision, decide_by_lift_and_drift
from monitoring.lift.lift_report import measure_lift

_START: Final = datetime(2025, 3, 3, tzinfo=UTC)
_DAYS: Final = 14
_USERS: Final = 4_000
_CLICK_RATE: Final = 0.15
_ORDER_RATE: Final = 0.5
Disturbance = str


class PlantedWorld(NamedTuple):
    """An experiment of 4,000 users in 14 days, and what a person would do."""

    right: tuple[str, bool]
    """Action, and whether to retrain."""
    click_lift: float = 0.0
    disturbance: Disturbance = ""
    has_drifted: bool = False


WORLDS: Final[dict[str, PlantedWorld]] = {
    "win": PlantedWorld(("promote", False), click_lift=0.25),
    "loss": PlantedWorld(("rollback", False), click_lift=-0.25),
    "tie": PlantedWorld(("hold", False)),
    "dead arm": PlantedWorld(("rollback", False), click_lift=-1.0),
    "broken assignment": PlantedWorld(("hold", False), click_lift=0.25, disturbance="lost_users"),
    "users in both arms": PlantedWorld(("hold", False), click_lift=0.25, disturbance="shared_users"),
    "clicking bot": PlantedWorld(("hold", False), disturbance="clicking_bot"),
    "crawler": PlantedWorld(("hold", False), disturbance="crawler"),
    "whale": PlantedWorld(("hold", False), disturbance="whale"),
    "drift": PlantedWorld(("promote", True), click_lift=0.25, has_drifted=True),
    "degraded serving": PlantedWorld(("hold", False), click_lift=-0.25, disturbance="fallback"),
}
_ONE_USER: Final = ("clicking_bot", "crawler", "whale")
"""Disturbances that are one user; they must change no decision of a win, a loss or a tie."""


def measure_decisions(*, quick: bool) -> Iterable[Row]:
    """Right decisions of every planted world, and decisions that one user changed."""
    num_runs = 4 if quick else 100
    runs = [(name, seed) for name in WORLDS for seed in range(num_runs)]
    right = run_on_all_cores(is_decided_rightly, *zip(*runs, strict=True))
    shares = {
        name: sum(is_right for (run_name, _), is_right in zip(runs, right, strict=True) if run_name == name)
        / num_runs
        for name in WORLDS
    }
    print("\n".join(f"right, {name}: {share:.3f}" for name, share in shares.items()), flush=True)
    yield make_row(
        "monitoring.decisions.right",
        min(shares.values()),
        sd=float(np.std(list(shares.values()), ddof=1)),
        unit=f"share of right decisions, worst of {len(WORLDS)} worlds",
        data=f"{', '.join(WORLDS)}; {num_runs} experiments each of {_USERS} users through the report",
    )
    num_pairs = 2 if quick else 15
    pairs = [
        (click_lift, disturbance, seed)
        for click_lift in (-0.25, 0.0, 0.25)
        for disturbance in _ONE_USER
        for seed in range(1_000, 1_000 + num_pairs)
    ]
    changed = run_on_all_cores(is_decision_changed, *zip(*pairs, strict=True))
    yield make_row(
        "monitoring.bot.decisions_changed",
        float(sum(changed)),
        unit=f"decisions of {len(pairs)} that one user changed",
        better="lower",
        data="a loss, a tie and a win, each without and with a crawler of 100,000 impressions, a bot of "
        "20,000 clicks, or an order of 1,000,000",
    )


def is_decided_rightly(name: str, seed: int) -> bool:
    """Whether an experiment of this world ends as it should."""
    world = WORLDS[name]
    decision = decide_world(world, seed)
    return (decision.action, decision.retrain) == world.right


def is_decision_changed(click_lift: float, disturbance: Disturbance, seed: int) -> bool:
    """Whether one user changes the decision of an experiment."""
    calm = PlantedWorld(("", False), click_lift=click_lift)
    without, with_user = (
        decide_world(world, seed) for world in (calm, calm._replace(disturbance=disturbance))
    )
    return without.action != with_user.action


def decide_world(world: PlantedWorld, seed: int) -> Decision:
    """Draws an experiment, writes its tables, reports and decides."""
    config = MonitoringConfig(primary_metric="gmv_per_user" if world.disturbance == "whale" else "ctr")
    visits = draw_visits(world, np.random.default_rng(seed))
    with TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        for table in (EXPOSURES, OUTCOMES):
            _as_table(visits, table).write_parquet(folder / f"{table.name}.parquet")
        _, summary = measure_lift(folder / "exposures.parquet", folder / "outcomes.parquet", config)
        write_json(folder / "lift.json", summary)
        drift = {
            "drifted": world.has_drifted,
            "drifted_columns": ["price"] * world.has_drifted,
            "embedding_drifted": False,
        }
        write_json(folder / "drift.json", drift)
        return decide_by_lift_and_drift(folder / "drift.json", folder / "lift.json", config)


def draw_visits(world: PlantedWorld, rng: np.random.Generator) -> pl.DataFrame:
    """One row per shown item: one to three visits a user, six items each."""
    num_visits = rng.integers(1, 4, _USERS)
    user = np.repeat(np.arange(_USERS), num_visits * 6)
    visit = np.repeat(np.arange(num_visits.sum()), 6)
    is_challenger = rng.random(_USERS) < 0.5
    taste = rng.beta(3, 3 / _CLICK_RATE - 3, _USERS)
    rates = taste * (1 + world.click_lift * is_challenger)
    clicks = rng.random(len(user)) < rates[user]
    orders = clicks & (rng.random(len(user)) < _ORDER_RATE)
    visits = pl.DataFrame(
        {
            "request_id": visit,
            "item_id": np.arange(len(user)),
            "user_id": user,
            "hour": rng.integers(0, 24 * _DAYS, num_visits.sum())[visit],
            "arm": np.where(is_challenger, "challenger", "control")[user],
            "click": clicks,
            "order": orders,
            "revenue": np.where(orders, rng.lognormal(3, 1, len(user)), 0.0),
            "model_version": ["m"] * len(user),
        }
    )
    return _disturb(visits, world.disturbance, rng)


def _disturb(visits: pl.DataFrame, disturbance: Disturbance, rng: np.random.Generator) -> pl.DataFrame:
    is_challenger = pl.col("arm") == "challenger"
    if disturbance == "lost_users":  # one challenger in five never reaches the log
        return visits.filter(~(is_challenger & (pl.col("user_id") % 5 == 0)))
    if disturbance == "shared_users":  # two people, one id
        return visits.with_columns(pl.col("user_id") % (_USERS * 4 // 5))
    if disturbance == "fallback":
        lost = is_challenger & (pl.col("request_id") % 3 == 0)
        return visits.with_columns(
            model_version=pl.when(lost).then(pl.lit("fallback")).otherwise(pl.col("model_version"))
        )
    if disturbance == "whale":
        buyer = visits.with_row_index("row").filter(is_challenger & pl.col("order"))["row"][0]
        return visits.with_columns(
            revenue=pl.when(pl.int_range(pl.len()) == buyer).then(1e6).otherwise(pl.col("revenue"))
        )
    if disturbance in {"clicking_bot", "crawler"}:
        num_rows = 20_000 if disturbance == "clicking_bot" else 100_000
        rows = np.arange(num_rows)
        bot = pl.DataFrame(
            {
                "request_id": 10_000_000 + rows,
                "item_id": 10_000_000 + rows,
                "user_id": np.full(num_rows, 10_000_000),
                "hour": rng.integers(0, 24 * _DAYS, num_rows),
                "arm": ["challenger"] * num_rows,
                "click": np.full(num_rows, disturbance == "clicking_bot"),
                "order": np.zeros(num_rows, dtype=bool),
                "revenue": np.zeros(num_rows),
                "model_version": ["m"] * num_rows,
            }
        )
        return pl.concat([visits, bot])
    return visits


def _as_table(visits: pl.DataFrame, table: Table) -> pl.DataFrame:
    rows = visits.with_columns(
        timestamp=_START + pl.duration(hours=pl.col("hour")),
        routed_version=pl.lit("m"),
        score=0.5,
        position=0,
        degraded=pl.lit([], dtype=pl.List(pl.String())),
    )
    return rows.select(
        pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in table.schema.items()
    )
