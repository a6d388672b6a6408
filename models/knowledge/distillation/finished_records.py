"""What the team made of a product: as cached JSON, as rows of the KNOWLEDGE table, as lines of the trace."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import polars as pl

from contracts.artifacts import check_table_columns, read_lineage
from contracts.errors import UserError
from contracts.tables import FACETS, KNOWLEDGE
from models.knowledge.agents.agent_roles import Objection
from models.knowledge.agents.agent_team import ProductCase
from models.knowledge.agents.prompt_files import digest_prompt_set
from models.knowledge.cache.workspace_cache import FinishedItem, FinishedItemCache
from models.knowledge.knowledge_schema import Claim, record_to_row

KNOWLEDGE_FILE: Final = "knowledge.parquet"
TRACE_FILE: Final = "traces.jsonl"
RECIPE_LABEL: Final = "recipe"
"""Label of a knowledge artifact: rows are carried over into a run of the same recipe only."""

ItemSelector = Callable[[pl.Series], pl.Series]
"""Which of the items, by their ids."""

_ROW_STRUCT = pl.Struct(
    {name: KNOWLEDGE.schema[name] for name in ("status", "summary", *FACETS, "confidence")}
)
_DROPPED_STRUCT = pl.Struct({"dropped": pl.List(pl.Struct({"reason": pl.String()}))})
_LINE_HEAD = '{"item_id": '
_ROWS_READ = 4096


def serialize_case(case: ProductCase) -> FinishedItem:
    """A closed case as JSON."""
    row_fields = record_to_row(case.record) if case.record and case.status == "ok" else {}
    trace_fields = {
        "status": case.status,
        "product": case.product.model_dump(),
        "reasoning": case.reasoning,
        "objections": [
            {**objection.model_dump(), "claim": _find_objected_claim(case, objection)}
            for objection in case.objections
        ],
        "dropped": [dropped_claim._asdict() for dropped_claim in case.dropped_claims],
        "fault": case.fault,
    }
    return FinishedItem(_dump_json({"status": case.status, **row_fields}), _dump_json(trace_fields))


def build_knowledge_frame(
    item_ids: Sequence[str], digests: Sequence[str], finished_items: Sequence[FinishedItem], teacher: str
) -> pl.DataFrame:
    """Rows of the KNOWLEDGE table."""
    row_jsons = pl.Series([item.row_json for item in finished_items], dtype=pl.String())
    return (
        row_jsons.str.json_decode(_ROW_STRUCT)
        .struct.unnest()
        .with_columns(
            pl.Series("item_id", item_ids, dtype=pl.String()),
            pl.Series("source_digest", digests, dtype=pl.String()),
            teacher=pl.lit(teacher),
            prompt_version=pl.lit(digest_prompt_set()),
        )
    )


def build_trace_lines(item_ids: Sequence[str], finished_items: Sequence[FinishedItem]) -> Iterator[str]:
    """Lines of the trace, each a JSON object that starts with the item's id."""
    for item_id, finished_item in zip(item_ids, finished_items, strict=True):
        yield f"{_LINE_HEAD}{_dump_json(item_id)}, {finished_item.trace_json[1:]}\n"


def count_dropped_claims(trace_lines: Sequence[str]) -> dict[str, int]:
    """How many claims fell, by reason."""
    traces = pl.Series(trace_lines, dtype=pl.String()).str.json_decode(_DROPPED_STRUCT)
    reasons = traces.struct.field("dropped").explode().drop_nulls().struct.field("reason")
    return dict(reasons.value_counts().iter_rows())


def carry_over_items(
    previous: Path,
    item_cache: FinishedItemCache,
    recipe_digest: str,
    select_items: ItemSelector | None = None,
) -> None:
    """Puts what an earlier knowledge artifact holds into the item cache, if the same recipe made it.

    With `select_items`, only those: else each of many shards would write the whole table into one cache.

    Raises:
        UserError: the folder is not a whole artifact.
    """
    if read_lineage(previous).labels.get(RECIPE_LABEL) != recipe_digest:
        return
    previous_table = pl.scan_parquet(previous / KNOWLEDGE_FILE)
    row_struct = pl.struct([field.name for field in _ROW_STRUCT.fields])
    columns = ("item_id", "source_digest", "status", row_struct.alias("row"))
    num_rows = previous_table.select(pl.len()).collect().item()
    with (previous / TRACE_FILE).open(encoding="utf-8") as trace_lines:
        for first_row in range(0, num_rows, _ROWS_READ):
            read_rows = previous_table.slice(first_row, _ROWS_READ).select(*columns).collect()
            read_rows = read_rows.with_columns(pl.col("row").struct.json_encode())
            is_selected = select_items(read_rows["item_id"]) if select_items else repeat(True)
            # Table and trace have the same items in the same order; the frame ends first.
            for row, trace_line, is_own in zip(read_rows.iter_rows(), trace_lines, is_selected, strict=False):
                _, digest, status, row_json = row
                if is_own and status != "invalid":
                    item_cache.store_finished_item(digest, FinishedItem(row_json, _strip_item_id(trace_line)))


def scan_knowledge(knowledge: Path) -> pl.LazyFrame:
    """The table of a knowledge artifact.

    Raises:
        UserError: the folder is no such artifact, or its table is damaged.
    """
    lineage = read_lineage(knowledge)
    if not (knowledge / KNOWLEDGE_FILE).is_file():
        raise UserError(f"{knowledge} holds no knowledge but an artifact of kind '{lineage.kind}'")
    with explain_damage(knowledge / KNOWLEDGE_FILE) as table_path:
        check_table_columns(table_path, KNOWLEDGE)
    return pl.scan_parquet(knowledge / KNOWLEDGE_FILE)


def read_item_trace(folder: Path, item_id: str) -> dict[str, Any]:
    """What the trace says of an item. Only the beginning of other lines is looked at.

    Raises:
        UserError: the trace is missing or damaged, or does not have the item.
    """
    line_start = f"{_LINE_HEAD}{_dump_json(item_id)}, "
    with explain_damage(folder / TRACE_FILE) as path, path.open(encoding="utf-8") as lines:
        trace: dict[str, Any] = json.loads(next((line for line in lines if line.startswith(line_start)), ""))
    return trace


@contextmanager
def explain_damage(path: Path) -> Iterator[Path]:
    """Turns what a missing, cut-off or foreign file of an artifact raises into a `UserError`."""
    try:
        yield path
    except UserError:
        raise
    except (OSError, ValueError, LookupError, TypeError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{path} is missing or damaged ({error}); copy the whole artifact again, or run the step that "
            "makes it"
        ) from error


def _find_objected_claim(case: ProductCase, objection: Objection) -> str:
    """Text of the claim that the critic means; empty where there is none."""
    claims: tuple[Claim, ...] = getattr(case.draft, objection.facet) if case.draft else ()
    return claims[objection.number].text if objection.number < len(claims) else ""


def _strip_item_id(line: str) -> str:
    # Cut out of the text, not parsed: a trace is long, and only its head changes.
    id_end = json.JSONDecoder().raw_decode(line, len(_LINE_HEAD))[1]
    return "{" + line[id_end + len(", ") :].rstrip("\n")


def _dump_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
