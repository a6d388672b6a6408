"""The served log: what was shown and done under our own rankers, one Parquet file a UTC day.

Layout: `day=YYYY-MM-DD/events.parquet` (contract SERVED_EVENTS), `quarantine.parquet` (the rows of bots)
and `collected.parquet` (all as it came, from which a day is made anew) beside it, `manifest.json` (days and
digests), `positions.json` (how far the event log was read).

`serving/served_log/` writes it; ingestion reads it.
"""

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import AwareDatetime

from contracts.artifacts import check_table_columns, write_text
from contracts.config import Config
from contracts.digests import digest_file, digest_value
from contracts.errors import UserError
from contracts.table_schema import Column, Table
from contracts.tables import EVENTS

SERVED_LOG_FOLDER: Final = "served_log"
"""Its name in a workspace."""
MANIFEST_FILE: Final = "manifest.json"
EVENTS_FILE: Final = "events.parquet"
SERVED_EVENTS: Final = Table(
    "served_events",
    EVENTS.key,
    (
        *EVENTS.columns,
        Column("model_version", pl.String(), "Ranker that ordered the page, or `fallback`.", nullable=True),
        Column("assignment", pl.String(), "How its arm came about: drawn, holdout, forced.", nullable=True),
    ),
    "One day of the served log, one row per event. `propensity` is null where no policy chose the page.",
)


class ServedDay(Config):
    """One day of the served log."""

    digest: str
    """Of its `events.parquet`."""
    num_rows: int
    """Rows of that."""
    counts: Mapping[str, int]
    """What the day holds, by name: rows of each type, bots, answers without a model ..."""


class ServedLogManifest(Config):
    """What a served log holds."""

    collected_at: AwareDatetime
    """When it was last collected; it holds nothing from after that."""
    bot_rule: str = ""
    """Digest of the rule by which bots were told apart."""
    repeat_rule: str = ""
    """Digest of the rule by which repeated events count once."""
    days: Mapping[date, ServedDay] = {}
    """UTC day -> what it holds. Days of which every row was held back are listed, too."""

    @property
    def digest(self) -> str:
        """Digest of all that can be learnt from; empty where that is nothing."""
        filled_days = {str(day): served.digest for day, served in self.days.items() if served.num_rows}
        return digest_value(filled_days) if filled_days else ""


def name_day_folder(served_log: Path, day: date) -> Path:
    """Folder of one day."""
    return served_log / f"day={day.isoformat()}"


def read_manifest(served_log: Path) -> ServedLogManifest | None:
    """Reads what a served log holds; None where nothing was collected yet."""
    manifest_path = served_log / MANIFEST_FILE
    if not manifest_path.is_file():
        return None
    return ServedLogManifest.model_validate_json(manifest_path.read_text(encoding="utf-8"))


def write_manifest(served_log: Path, manifest: ServedLogManifest) -> None:
    """Writes what a served log holds, atomically."""
    write_text(served_log / MANIFEST_FILE, manifest.model_dump_json(indent=1))


def read_served_events(served_log: Path, *, digest: str, before: datetime | None = None) -> pl.DataFrame:
    """Reads the events of all days: contract EVENTS.

    Args:
        served_log: the folder.
        digest: the state of it that is meant (`ServedLogManifest.digest`).
        before: leave out what is not strictly before this moment.

    Raises:
        UserError: there is no served log, or it is in another state.
    """
    manifest = read_manifest(served_log)
    if manifest is None or manifest.digest != digest:
        found_state = manifest.digest if manifest else "none"
        raise UserError(
            f"the served log in {served_log} changed while the run went on (digest {found_state}, collected "
            f"as {digest}); run the pipeline again"
        )
    frames = [EVENTS.create_empty()]
    for day, served_day in sorted(manifest.days.items()):
        events_path = name_day_folder(served_log, day) / EVENTS_FILE
        check_table_columns(events_path, SERVED_EVENTS)
        if digest_file(events_path) != served_day.digest:
            raise UserError(f"{events_path} is not what was collected; run the step collect_log again")
        day_events = pl.read_parquet(events_path, columns=list(EVENTS.schema))
        frames.append(day_events if before is None else day_events.filter(pl.col("timestamp") < before))
    return pl.concat(frames)
