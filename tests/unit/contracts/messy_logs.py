"""Messy exports whose clean truth is known: a shop's tables, written as badly as tools and people do."""

import gzip
import io
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

START = datetime(2025, 1, 6, 8, tzinfo=UTC)
TYPES = ("click", "cart", "order")
THEIR_TYPES = {"click": "view", "cart": "addtocart", "order": "transaction"}
KEY = ("user_id", "item_id", "timestamp", "event_type")
NOBODY = ("nan", "", "NULL", "\\N", "None", "guest")
TITLES = (
    "Mug, large",
    'Pan 12" "pro"',
    "Krug für Tee",
    "Knife",
    "Pot; steel | 2l",
    "Spoon\tset",
    "it's a lid",
)


class MessyLog(NamedTuple):
    """What was written, and what must come out."""

    data: dict[str, Any]
    """The section `data` of a configuration."""
    events: list[tuple[Any, ...]]
    """Sorted (user, item, time, type, quantity, price) that must come out."""
    titles: dict[str, str]
    """Item -> title that must come out."""
    messes: list[str]
    """What was done, for the message of a failing test."""


def sort_events(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What two logs are compared by."""
    names = ("user_id", "item_id", "timestamp", "event_type", "quantity", "price")
    return sorted((tuple(row[name] for name in names) for row in rows), key=str)


def write_messy_log(seed: int, folder: Path) -> MessyLog:
    """Writes the files of one messy export."""
    rng = Random(seed)
    messes: list[str] = []
    has_numbers = rng.random() < 0.7
    items = [str(1000 + n) if has_numbers else f"sku-{n}" for n in range(8)]
    users = [str(17_000 + n) if has_numbers else f"user {n}" for n in range(6)]
    titles = {item: f"{rng.choice(TITLES)} {n}" for n, item in enumerate(items)}
    prices = {item: round(rng.uniform(1, 2000), 2) for item in items}
    rows = []
    for number in range(rng.randrange(40, 90)):
        item, event_type = rng.choice(items), rng.choice(TYPES)
        row = {
            "user_id": rng.choice(users),
            "item_id": item,
            "timestamp": START + timedelta(minutes=37 * number, seconds=rng.randrange(60)),
            "event_type": event_type,
            "quantity": rng.randrange(1, 4) if event_type == "order" else None,
            "price": prices[item],
        }
        rows.append(row)
    item_rows = [{"item_id": i, "title": titles[i], "price": prices[i]} for i in items]
    truth = [dict(row) for row in rows]
    config: dict[str, Any] = {"items": {}, "events": {}}

    # Rows that mean nothing, once more or something else: with a known effect on the truth.
    if rng.random() < 0.3:
        messes.append("a future event")
        rows.append(rows[0] | {"timestamp": datetime(2099, 1, 1, tzinfo=UTC)})
    if rng.random() < 0.3:
        messes.append("an event of 1970")
        rows.append(rows[1] | {"timestamp": datetime(1970, 1, 2, tzinfo=UTC)})
    if rng.random() < 0.3:
        messes.append("rows of nobody")
        rows.append(rows[2] | {"user_id": rng.choice(NOBODY)})
    if rng.random() < 0.3:
        messes.append("a click again")
        rows += [row for row in rows if row["event_type"] == "click"][:1]
    if rng.random() < 0.3:
        messes.append("an order line again")
        again = next((row for row in rows if row["event_type"] == "order"), None)
        if again is not None:
            rows.insert(rows.index(again), dict(again))
            truth[truth.index(again)]["quantity"] *= 2
    if rng.random() < 0.3:
        messes.append("a price that is none")
        clicks = [row for row in truth if row["event_type"] != "order"]
        if clicks:
            spoilt = clicks[-1]
            for row in rows:
                if all(
                    row[name] == spoilt[name] for name in ("user_id", "item_id", "timestamp", "event_type")
                ):
                    row["price"] = None
            spoilt["price"] = None
    config["max_rejected_share"] = 0.2

    file_format = rng.choice(["csv", "csv", "csv", "jsonl", "parquet", "arrow"])
    messes.append(file_format)
    is_text = file_format in ("csv", "jsonl")
    written = [dict(row) for row in rows]
    _spoil_times(rng, written, config["events"], messes, is_text)
    _spoil_ids(rng, written, item_rows, messes, has_numbers, is_text)
    _spoil_numbers(rng, written, messes, is_text)
    if rng.random() < 0.5:
        messes.append("types of their own")
        for row in written:
            row["event_type"] = THEIR_TYPES[row["event_type"]]
        config["events"]["event_types"] = {theirs: ours for ours, theirs in THEIR_TYPES.items()}
    if rng.random() < 0.3:
        messes.append("a type that is ignored")
        written.append(written[0] | {"event_type": "login"})
        config["events"]["event_types"] = {**config["events"].get("event_types", {}), "login": "ignore"}
    _write_tables(rng, written, item_rows, config, messes, folder, file_format)
    events = sort_events(truth)
    return MessyLog(config, events, titles, messes)


def _spoil_times(
    rng: Random, rows: list[dict[str, Any]], source: dict[str, Any], messes: list[str], is_text: bool
) -> None:
    zone = ZoneInfo("Asia/Tokyo")
    numeric = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
    style = rng.choice(["iso", "mixed units", "zoned", *numeric, *(_TEXT_STYLES if is_text else ())])
    messes.append(f"times: {style}")
    for row in rows:
        moment = row["timestamp"]
        if style in numeric:
            row["timestamp"] = int(moment.timestamp()) * numeric[style]
        elif style == "mixed units":
            row["timestamp"] = int(moment.timestamp()) * rng.choice([1, 1000])
        elif style == "zoned":
            row["timestamp"] = moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
            source["time_zone"] = "Asia/Tokyo"
        elif style == "iso":
            row["timestamp"] = moment.isoformat()
        else:
            row["timestamp"] = _TEXT_STYLES[style](moment)


_TEXT_STYLES = {
    "postgres": lambda t: t.strftime("%Y-%m-%d %H:%M:%S+00"),
    "bigquery": lambda t: t.strftime("%Y-%m-%d %H:%M:%S UTC"),
    "log4j": lambda t: t.strftime("%Y-%m-%d %H:%M:%S,000"),
    "compact": lambda t: t.strftime("%Y%m%dT%H%M%SZ"),
    "rfc 2822": format_datetime,
    "german": lambda t: t.strftime("%d.%m.%Y %H:%M:%S"),
    "access log": lambda t: t.strftime("%d/%b/%Y:%H:%M:%S +0000"),
    "digits": lambda t: t.strftime("%Y%m%d%H%M%S"),
    "spreadsheet": lambda t: f"{(t - datetime(1899, 12, 30, tzinfo=UTC)) / timedelta(days=1):.9f}",
    "float seconds": lambda t: f"{t.timestamp():.1f}",
}


def _spoil_ids(
    rng: Random,
    rows: list[dict[str, Any]],
    item_rows: list[dict[str, Any]],
    messes: list[str],
    has_numbers: bool,
    is_text: bool,
) -> None:
    style = rng.choice(["as they are", "point zero", "quoted", "blanks"]) if is_text else "as they are"
    messes.append(f"ids: {style}")
    for row in [*rows, *item_rows]:
        for name in ("user_id", "item_id"):
            text = row.get(name)
            if text is None or text in NOBODY:
                continue
            if style == "point zero" and has_numbers and rng.random() < 0.5:
                row[name] = f"{text}.0"
            elif style == "quoted":
                row[name] = f'"{text}"'
            elif style == "blanks":
                row[name] = f" {text} "


def _spoil_numbers(rng: Random, rows: list[dict[str, Any]], messes: list[str], is_text: bool) -> None:
    if not is_text:
        return
    style = rng.choice(["plain", "dollar", "comma", "thousands"])
    messes.append(f"prices: {style}")
    for row in rows:
        price = row["price"]
        if price is None:
            row["price"] = rng.choice(["ask us", "nan", "n/a", "1.2.3"])
            continue
        row["price"] = {
            "plain": f"{price}",
            "dollar": f"${price:.2f}",
            "comma": f"{price:.2f}".replace(".", ","),
            "thousands": f"{price:,.2f}",
        }[style]
        if row["quantity"] is not None and rng.random() < 0.5:
            row["quantity"] = f"{row['quantity']}.0"


def _write_tables(
    rng: Random,
    rows: list[dict[str, Any]],
    item_rows: list[dict[str, Any]],
    config: dict[str, Any],
    messes: list[str],
    folder: Path,
    file_format: str,
) -> None:
    separator = rng.choice([",", ";", "\t", "|"])
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1"])
    is_packed = rng.random() < 0.2
    suffix = f".{file_format}" + (".gz" if is_packed and file_format in ("csv", "jsonl") else "")
    if file_format == "csv":
        messes.append(f"separator {separator!r}, {encoding}")
    log = folder / "log"
    log.mkdir(parents=True)
    num_parts = rng.choice([1, 1, 3])
    size = -(-len(rows) // num_parts)
    names = list(rows[0])
    rng.shuffle(names)
    if rng.random() < 0.4:
        messes.append("columns of their own names")
        renamed = {"user_id": "CustomerID", "item_id": "StockCode", "timestamp": "InvoiceDate"}
        rows = [{renamed.get(name, name): value for name, value in row.items()} for row in rows]
        names = [renamed.get(name, name) for name in names]
        config["events"]["columns"] = renamed
    for number in range(num_parts):
        # Lines that repeat lie side by side, so that they stay in one file.
        part = [{name: row[name] for name in names} for row in rows[number * size : (number + 1) * size]]
        if part:
            _write_file(log / f"part-{number}{suffix}", part, file_format, separator, encoding)
    if rng.random() < 0.3:
        messes.append("leftovers")
        (log / "_temporary").mkdir()
        _write_file(log / "_temporary" / f"part-0{suffix}", rows[:5], file_format, separator, encoding)
        (log / "_SUCCESS").write_bytes(b"")
        if num_parts > 1:
            (log / f"part-9{suffix}").write_bytes(b"")
    if rng.random() < 0.3:
        messes.append("a file twice")
        (log / f"copy of part-0{suffix}").write_bytes((log / f"part-0{suffix}").read_bytes())
    _write_file(folder / f"items{suffix}", item_rows, file_format, separator, encoding)
    config["items"]["uri"] = str(folder / f"items{suffix}")
    config["events"]["uri"] = str(log)


def _write_file(
    path: Path, rows: list[dict[str, Any]], file_format: str, separator: str, encoding: str
) -> None:
    if file_format in ("parquet", "arrow"):
        frame = pl.DataFrame(rows, infer_schema_length=None)
        frame.write_parquet(path) if file_format == "parquet" else frame.write_ipc(path)
        return
    text = io.StringIO()
    if file_format == "jsonl":
        text.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        encoding = "utf-8"
    else:
        cells = pl.DataFrame(
            [{name: None if value is None else str(value) for name, value in row.items()} for row in rows],
            infer_schema_length=None,
        )
        text.write(cells.write_csv(separator=separator))
    content = text.getvalue().encode(encoding)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
