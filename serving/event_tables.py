"""The event log read back as the contract's tables: exposures, events, outcomes."""

import io
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from contracts.schema import UTC_TIME, Table
from contracts.tables import EVENTS, EXPOSURES, OUTCOMES

_EXPOSURE_LINE = pl.Schema(
    {
        "request_id": pl.String(),
        "user_id": pl.String(),
        "timestamp": pl.String(),
        "arm": pl.String(),
        "layers": pl.List(pl.String()),
        "assignment": pl.String(),
        "model_version": pl.String(),
        "routed_version": pl.String(),
        "item_ids": pl.List(pl.String()),
        "scores": pl.List(pl.Float64()),
        "degraded": pl.List(pl.List(pl.String())),
    }
)
"""One line per answered request; `layers` holds `experiment=arm`, `degraded` is per item."""
_EVENT_LINE = pl.Schema({n: pl.String() if t == UTC_TIME else t for n, t in EVENTS.schema.items()})


def read_exposures(folder: Path, *, layer: str | None = None, only_drawn: bool = False) -> pl.DataFrame:
    """Everything that was shown: contract EXPOSURES. A request id that came twice counts once, the first time.

    Args:
        folder: the event log.
        layer: take the arms of this layer instead of the ranker experiment's; exposures without one are left out.
        only_drawn: leave out what was forced or held out, which is no part of a comparison.
    """
    lines = _read_lines(folder, "exposures", _EXPOSURE_LINE).unique("request_id", keep="first", maintain_order=True)
    if only_drawn:
        lines = lines.filter(pl.col("assignment").fill_null("drawn") == "drawn")
    if layer is not None:
        arm = pl.col("layers").list.eval(pl.element().filter(pl.element().str.starts_with(f"{layer}="))).list.first()
        lines = lines.with_columns(arm=arm.str.slice(len(layer) + 1)).drop_nulls("arm")
    rows = lines.with_columns(
        pl.coalesce("routed_version", "model_version").alias("routed_version"),  # older lines only say who scored
        position=pl.int_ranges(0, pl.col("item_ids").list.len()),
    )
    exploded = rows.explode("item_ids", "scores", "degraded", "position")
    named = exploded.rename({"item_ids": "item_id", "scores": "score"})
    return _checked(named, EXPOSURES)


def read_events(folder: Path) -> pl.DataFrame:
    """Everything that was reported: contract EVENTS, each event once however often it was sent."""
    lines = _read_lines(folder, "events", _EVENT_LINE)
    arms = read_exposures(folder).select("request_id", pl.col("arm").alias("shown_by")).unique("request_id")
    known = lines.join(arms, on="request_id", how="left", maintain_order="left")
    with_arm = known.with_columns(arm=pl.coalesce("arm", "shown_by"))
    return _checked(with_arm.unique(EVENTS.key, keep="first", maintain_order=True), EVENTS)


def read_outcomes(folder: Path) -> pl.DataFrame:
    """What users did with what was shown: contract OUTCOMES, one row per exposure, also where nothing happened.

    Revenue is price x quantity of the orders that name the request.
    """
    events = read_events(folder).filter(pl.col("request_id").is_not_null())
    amount = pl.col("price").fill_null(0) * pl.col("quantity").fill_null(1)
    is_order = pl.col("event_type") == "order"
    done = events.group_by("request_id", "item_id").agg(
        click=(pl.col("event_type") == "click").any(),
        order=is_order.any(),
        revenue=pl.when(is_order).then(amount).otherwise(0.0).sum(),
        acted_at=pl.col("timestamp").max(),
    )
    shown = read_exposures(folder).select("request_id", "item_id", "user_id", "timestamp")
    rows = shown.join(done, on=["request_id", "item_id"], how="left", maintain_order="left").with_columns(
        pl.col("click", "order").fill_null(False),
        pl.col("revenue").fill_null(0.0),
        pl.coalesce("acted_at", "timestamp").alias("timestamp"),
    )
    return _checked(rows, OUTCOMES)


def _checked(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    times = [name for name, dtype in table.schema.items() if dtype == UTC_TIME and rows.schema[name] == pl.String]
    parsed = rows.with_columns(pl.col(times).str.to_datetime("%+", time_unit="us", time_zone="UTC"))
    return table.check(parsed)


def _read_lines(folder: Path, kind: str, schema: pl.Schema) -> pl.DataFrame:
    frames = [pl.read_ndjson(io.BytesIO(whole), schema=schema) for whole in _whole_lines(folder, kind)]
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def _whole_lines(folder: Path, kind: str) -> Iterator[bytes]:
    for path in sorted(folder.glob(f"{kind}-*.jsonl")):
        content = path.read_bytes()
        # Half a line at the end was cut off by a crash and never acknowledged.
        if whole := content[: content.rfind(b"\n") + 1]:
            yield whole
