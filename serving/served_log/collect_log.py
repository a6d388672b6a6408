"""Collection: the event log becomes the served log, day by day.

New records are read from where the last collection stopped, and put aside by their UTC day. Then each day
that got some is made anew and replaced as a whole; the manifest comes last. An order or a return that comes
late is filed under its own day. A return also changes the day of its order, which then says what came back.
Repeated or killed collections add nothing twice: rows that are there already are known by their key. What was
sent twice is kept as it came, and counted once when a day is made (`contracts/events/event_repeats.py`).

Memory holds one day, and all returns with their orders.
"""

import fcntl
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from contracts.artifacts import write_json, write_table
from contracts.config import Config
from contracts.digests import digest_file, digest_value
from contracts.errors import UserError
from contracts.events.bots import BotRuleConfig
from contracts.events.event_repeats import RepeatRuleConfig, drop_repeats, sum_order_lines
from contracts.served_log import (
    EVENTS_FILE,
    SERVED_EVENTS,
    SERVED_LOG_FOLDER,
    ServedDay,
    ServedLogManifest,
    name_day_folder,
    read_manifest,
    write_manifest,
)
from contracts.tables import EVENTS
from serving.config import EventLogConfig, ServedLogConfig
from serving.served_log.collected_days import (
    COLLECTED_FILE,
    ReturnedOrders,
    find_changed_days,
    find_days_of_copies,
    find_earlier_copies,
    find_earlier_requests,
    find_returned_orders,
    merge_day,
    read_collected,
    write_parquet,
)
from serving.served_log.collected_rows import IS_SHOWN, collect_lines, split_by_day
from serving.served_log.log_sources import LogSource, Positions, open_log_source
from serving.served_log.served_days import build_day

_REPEATS: Final = RepeatRuleConfig()
QUARANTINE_FILE: Final = "quarantine.parquet"
_POSITIONS_FILE: Final = "positions.json"
_UNFINISHED_FILE: Final = "unfinished.json"
"""Days that a collection began to make anew; gone when all of them are done."""
_STAGING_FOLDER: Final = ".staging"


@dataclass
class StagedRows:
    """New records, put aside by day."""

    positions: Positions
    num_rows: int = 0
    num_broken: int = 0
    parts: dict[date, list[Path]] = field(default_factory=lambda: defaultdict(list))
    """Day -> files, in the order in which they were read."""


class DayRules(NamedTuple):
    """By what a day is made of what was collected of it."""

    bots: BotRuleConfig
    repeats: RepeatRuleConfig


class ServedLogState(NamedTuple):
    """What there is to learn from after a collection."""

    digest: str
    """Names the state of the served log; empty where there is nothing."""
    counts: dict[str, float]
    """What it holds and what was new, by name."""


def refresh_served_log(
    config: ServedLogConfig, event_log: EventLogConfig, *, workspace: Path
) -> ServedLogState:
    """Brings the served log of a workspace up to date, where it is wanted.

    Raises:
        UserError: `config.use` is true and nothing was ever served, or the event log cannot be read.
    """
    if config.use is False:
        return ServedLogState("", {})
    # Not `config.state`: in a workspace everything has its place.
    source = open_log_source(event_log, workspace / "serving" / "events")
    served_log = workspace / SERVED_LOG_FOLDER
    counts = collect_log(source, config, served_log=served_log, repeats=event_log.repeats)
    manifest = read_manifest(served_log)
    assert manifest is not None
    return ServedLogState(manifest.digest, counts)


def collect_log(
    source: LogSource,
    config: ServedLogConfig,
    *,
    served_log: Path,
    repeats: RepeatRuleConfig = _REPEATS,
    collected_at: datetime | None = None,
) -> dict[str, float]:
    """Brings the served log up to date.

    Args:
        source: the event log.
        config: who is a bot, and whether there must be something.
        served_log: the folder to keep it in.
        repeats: which events are one event that was sent again.
        collected_at: nothing from this moment on is let in; now by default.

    Returns:
        What it holds and what was new, by name.

    Raises:
        UserError: `config.use` is true and nothing was ever served, or the source cannot be read.
    """
    collected_at = collected_at or datetime.now(UTC)
    with _lock_folder(served_log), _open_staging(served_log) as staging:
        manifest = read_manifest(served_log) or ServedLogManifest(collected_at=collected_at)
        positions_by_source = _read_json(served_log / _POSITIONS_FILE)
        positions = positions_by_source.get(source.name, {})
        num_lost = source.count_lost_records(positions)
        staged = _stage_rows(source, positions, staging)
        rules = DayRules(config.bots, repeats)
        waiting_days = _list_waiting_days(served_log, manifest, rules)
        due_days = waiting_days.union(staged.parts)
        _note_unfinished(served_log, due_days)
        new_rows = {
            day: merge_day(name_day_folder(served_log, day), part_paths)
            for day, part_paths in sorted(staged.parts.items())
        }
        due_days |= find_days_of_copies(
            _list_new_files(served_log, staged, waiting_days),
            served_log=served_log,
            days=manifest.days.keys() - due_days,
            repeats=repeats,
        )
        returned = find_returned_orders(
            served_log, sorted({*manifest.days, *due_days}), repeats=repeats, before=collected_at
        )
        # A return changes days that got nothing themselves.
        due_days |= find_changed_days(
            returned,
            chain.from_iterable(staged.parts.values()),
            served_log=served_log,
            other_days=waiting_days,
        )
        _note_unfinished(served_log, due_days)
        written_days = {
            day: _write_day(served_log, day, returned, rules, before=collected_at) for day in sorted(due_days)
        }
        latest_former_day = max(manifest.days, default=date.min)
        manifest = ServedLogManifest(
            collected_at=collected_at,
            bot_rule=_digest_rule(config.bots),
            repeat_rule=_digest_rule(repeats),
            days=dict(sorted((dict(manifest.days) | written_days).items())),
        )
        write_manifest(served_log, manifest)
        (served_log / _UNFINISHED_FILE).unlink()
        write_json(served_log / _POSITIONS_FILE, positions_by_source | {source.name: staged.positions})
    if config.use is True and not manifest.digest:
        raise UserError(
            "served_log.use = true, but nothing was served yet; send requests to the gateway first, or set "
            "it to auto"
        )
    num_new = sum(new_rows.values())
    return _sum_counts(manifest.days) | {
        "new_rows": num_new,
        "duplicate_rows": staged.num_rows - num_new,
        "late_rows": sum(count for day, count in new_rows.items() if day < latest_former_day),
        "broken_lines": staged.num_broken,
        "lost_records": num_lost,
        "written_days": len(written_days),
        "matched_returns": returned.num_matched,
    }


def _stage_rows(source: LogSource, positions: Positions, staging: Path) -> StagedRows:
    """Puts new records aside, a file for each chunk and day."""
    staged = StagedRows(positions)
    for number, chunk in enumerate(source.iter_chunks(positions)):
        collected = collect_lines(chunk.kind, chunk.lines)
        staged.positions = chunk.positions
        staged.num_broken += collected.num_broken
        staged.num_rows += len(collected.rows)
        for day, day_rows in split_by_day(collected.rows).items():
            part_path = staging / f"{day}-{number:09d}.parquet"
            day_rows.write_parquet(part_path)
            staged.parts[day].append(part_path)
    return staged


def _list_new_files(
    served_log: Path, staged: StagedRows, waiting_days: set[date]
) -> Iterator[tuple[date, Path]]:
    """Yields day and file of rows that count only now: new ones, and days of which some were held back."""
    for day, part_paths in staged.parts.items():
        yield from ((day, path) for path in part_paths)
    for day in waiting_days:
        yield day, name_day_folder(served_log, day) / COLLECTED_FILE


def _list_waiting_days(served_log: Path, manifest: ServedLogManifest, rules: DayRules) -> set[date]:
    """Days to make anew though nothing new came."""
    unfinished_days = {date.fromisoformat(day) for day in _read_json(served_log / _UNFINISHED_FILE)}
    # They hold rows from after the last collection, which may be let in by now.
    held_back_days = {day for day, served in manifest.days.items() if served.counts["held_back_rows"]}
    former_digests = manifest.bot_rule, manifest.repeat_rule
    is_same_rule = former_digests == (_digest_rule(rules.bots), _digest_rule(rules.repeats))
    return unfinished_days.union(held_back_days, () if is_same_rule else manifest.days)


def _note_unfinished(served_log: Path, days: set[date]) -> None:
    write_json(served_log / _UNFINISHED_FILE, {str(day): True for day in days})


def _write_day(
    served_log: Path, day: date, returned: ReturnedOrders, rules: DayRules, *, before: datetime
) -> ServedDay:
    """Makes a day anew and replaces its files."""
    folder = name_day_folder(served_log, day)
    collected = read_collected(folder)
    known_rows = collected.filter(pl.col("timestamp") < before)
    reported = known_rows.filter(~IS_SHOWN)
    earlier_copies = find_earlier_copies(served_log, day, reported, rules.repeats)
    distinct = drop_repeats(reported, rules.repeats, earlier=earlier_copies)
    rows = pl.concat([known_rows.filter(IS_SHOWN), distinct.events])
    orders = rows.filter(pl.col("event_type") == "order")
    marked_orders = pl.concat(
        [
            orders.join(returned.order_keys, on=EVENTS.key, how="anti"),
            returned.orders.filter(pl.col("timestamp").dt.date() == day),
        ]
    )
    earlier_requests = find_earlier_requests(served_log, day, rows)
    tables = build_day(
        rows, orders=sum_order_lines(marked_orders), requests=earlier_requests, rule=rules.bots
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(folder / QUARANTINE_FILE, tables.quarantine)
    write_table(folder / EVENTS_FILE, SERVED_EVENTS, tables.events)
    collection_counts = {
        "returned_orders": marked_orders["returned"].count(),
        "repeated_rows": distinct.num_repeats,
        "repeated_orders": distinct.num_repeated_trades,
        "held_back_rows": len(collected) - len(known_rows),
        "quarantined_rows": len(tables.quarantine),
    }
    return ServedDay(
        digest=digest_file(folder / EVENTS_FILE),
        num_rows=len(tables.events),
        counts=tables.counts | collection_counts,
    )


def _digest_rule(rule: Config) -> str:
    return digest_value(rule.model_dump(mode="json"))


def _sum_counts(days: Mapping[date, ServedDay]) -> dict[str, float]:
    totals: dict[str, float] = defaultdict(int)
    for served in days.values():
        totals["days"] += served.num_rows > 0
        totals["rows"] += served.num_rows
        for name, count in served.counts.items():
            totals[name] += count
    return dict(totals)


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


@contextmanager
def _lock_folder(served_log: Path) -> Iterator[None]:
    """Waits until no other collection writes here."""
    served_log.mkdir(parents=True, exist_ok=True)
    with (served_log / ".lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        yield


@contextmanager
def _open_staging(served_log: Path) -> Iterator[Path]:
    staging = served_log / _STAGING_FOLDER
    shutil.rmtree(staging, ignore_errors=True)  # of a collection that was killed
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
