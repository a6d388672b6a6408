"""What the team made of a product, as it is cached, and as rows of the KNOWLEDGE table and lines of the trace."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Final

import polars as pl

from contracts.artifacts import read_lineage
from contracts.tables import FACETS, KNOWLEDGE
from models.knowledge.agents.prompts import prompt_set_version
from models.knowledge.agents.roles import Objection
from models.knowledge.agents.team import Case
from models.knowledge.cache import Finished, ItemCache
from models.knowledge.schema import Claim, to_row

KNOWLEDGE_FILE: Final = "knowledge.parquet"
TRACE_FILE: Final = "traces.jsonl"
RECIPE: Final = "recipe"
"""Label of a knowledge artifact: rows are carried over into a run of the same recipe only."""

Owns = Callable[[pl.Series], pl.Series]
"""Which of the items, by their ids."""

_ROW = pl.Struct({name: KNOWLEDGE.schema[name] for name in ("status", "summary", *FACETS, "confidence")})
_DROPPED = pl.Struct({"dropped": pl.List(pl.Struct({"reason": pl.String()}))})
_HEAD = '{"item_id": '
_ROWS_READ = 4096


def finish(case: Case) -> Finished:
    """A closed case as JSON."""
    known = to_row(case.record) if case.record and case.status == "ok" else {}
    trace = {
        "status": case.status,
        "product": case.product.model_dump(),
        "reasoning": case.reasoning,
        "objections": [
            {**objection.model_dump(), "claim": _objected(case, objection)} for objection in case.objections
        ],
        "dropped": [dropped._asdict() for dropped in case.dropped],
        "fault": case.fault,
    }
    return Finished(_dump({"status": case.status, **known}), _dump(trace))


def to_frame(
    item_ids: Sequence[str], digests: Sequence[str], finished: Sequence[Finished], teacher: str
) -> pl.DataFrame:
    """Rows of the KNOWLEDGE table."""
    rows = pl.Series([made.row for made in finished], dtype=pl.String()).str.json_decode(_ROW)
    return rows.struct.unnest().with_columns(
        pl.Series("item_id", item_ids, dtype=pl.String()),
        pl.Series("source_digest", digests, dtype=pl.String()),
        teacher=pl.lit(teacher),
        prompt_version=pl.lit(prompt_set_version()),
    )


def to_lines(item_ids: Sequence[str], finished: Sequence[Finished]) -> Iterator[str]:
    """Lines of the trace, each a JSON object that starts with the item's id."""
    for item_id, made in zip(item_ids, finished, strict=True):
        yield f"{_HEAD}{_dump(item_id)}, {made.trace[1:]}\n"


def count_dropped(lines: Sequence[str]) -> dict[str, int]:
    """How many claims fell, by reason."""
    traces = pl.Series(lines, dtype=pl.String()).str.json_decode(_DROPPED)
    reasons = traces.struct.field("dropped").explode().drop_nulls().struct.field("reason")
    return dict(reasons.value_counts().iter_rows())


def carry_over(previous: Path, items: ItemCache, recipe: str, owns: Owns | None = None) -> None:
    """Puts what an earlier knowledge artifact holds into the item cache, if the same recipe made it.

    With `owns`, only the items that it picks: else each of many shards would write the whole table into one cache.

    Raises:
        UserError: the folder is not a whole artifact.
    """
    if read_lineage(previous).labels.get(RECIPE) != recipe:
        return
    table = pl.scan_parquet(previous / KNOWLEDGE_FILE)
    columns = ("item_id", "source_digest", "status", pl.struct([field.name for field in _ROW.fields]).alias("row"))
    with (previous / TRACE_FILE).open(encoding="utf-8") as lines:
        for start in range(0, table.select(pl.len()).collect().item(), _ROWS_READ):
            rows = table.slice(start, _ROWS_READ).select(*columns).collect()
            rows = rows.with_columns(pl.col("row").struct.json_encode())
            # Table and trace have the same items in the same order.
            own = owns(rows["item_id"]) if owns else repeat(True)
            for (_, digest, status, row), line, mine in zip(rows.iter_rows(), lines, own, strict=False):
                if mine and status != "invalid":
                    items.put(digest, Finished(row, _without_id(line)))


def find_line(folder: Path, item_id: str) -> str:
    """An item's line of the trace; empty when it has none. Only the beginning of other lines is looked at."""
    start = f"{_HEAD}{_dump(item_id)}, "
    with (folder / TRACE_FILE).open(encoding="utf-8") as lines:
        return next((line for line in lines if line.startswith(start)), "")


def _objected(case: Case, objection: Objection) -> str:
    """Text of the claim that the critic means; empty where there is none."""
    claims: tuple[Claim, ...] = getattr(case.draft, objection.facet) if case.draft else ()
    return claims[objection.number].text if objection.number < len(claims) else ""


def _without_id(line: str) -> str:
    end = json.JSONDecoder().raw_decode(line, len(_HEAD))[1]
    return "{" + line[end + len(", ") :].rstrip("\n")


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
