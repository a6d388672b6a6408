"""The step `distill_knowledge`: from the catalogue to the KNOWLEDGE table (paper: explicit reasoning).

Writes knowledge.parquet, traces.jsonl (each agent's reasoning, the critic's objections, one line per item), ledger.json
and, where items got no valid answer, quarantine.parquet with the raw answers. Items go through in batches, so memory
does not grow with the catalogue; each answer is cached as it comes, so a killed run goes on where it was.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from contracts.artifacts import Artifact, new_artifact, read_table, write_json, write_table
from contracts.errors import UserError
from contracts.tables import FACETS, ITEMS, KNOWLEDGE
from models.knowledge.agents.desk import Desk
from models.knowledge.agents.prompts import prompt_set_version
from models.knowledge.agents.team import Case, distil
from models.knowledge.cache import open_cache
from models.knowledge.config import KnowledgeConfig
from models.knowledge.ledger import Ledger
from models.knowledge.products import read_product
from models.knowledge.schema import to_row
from models.knowledge.teachers.base import Teacher
from models.knowledge.teachers.build import build_teacher

_QUARANTINE_SCHEMA = {"item_id": pl.String(), "reason": pl.String(), "raw_answer": pl.String()}


@dataclass
class _Tally:
    statuses: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    quarantine: list[dict[str, str]] = field(default_factory=list)


def distill_knowledge(dataset: Path, config: KnowledgeConfig, *, cache: Path, out: Path) -> None:
    """Distils knowledge on every item of a dataset artifact into a knowledge artifact.

    Args:
        dataset: The dataset artifact; only its catalogue is read, never its log.
        config: Teacher, batch size and gates.
        cache: Folder of the request cache, kept between runs.
        out: The artifact folder to write.

    Raises:
        UserError: the dataset or the teacher is not usable, too many answers were invalid, or too few items known.
    """
    items = read_table(dataset / "items.parquet", ITEMS)
    teacher = build_teacher(config.teacher)
    ledger = Ledger(teacher.price)
    tally = _Tally()
    with (
        open_cache(cache) as requests,
        new_artifact(out, kind="knowledge", inputs={"dataset": dataset}, config=config) as artifact,
    ):
        parts = artifact.path / "parts"
        parts.mkdir()
        desk = Desk(teacher, requests, ledger)
        with (artifact.path / "traces.jsonl").open("w", encoding="utf-8") as traces:
            for number, batch in enumerate(items.iter_slices(config.batch_items)):
                cases = _distil_batch(batch, config, desk, traces)
                _count(batch, cases, tally)
                write_table(parts / f"{number:06d}.parquet", KNOWLEDGE, _rows(batch, cases, teacher))
                _check_invalid(tally, items.height, config)
        _join_parts(parts, artifact.path / "knowledge.parquet")
        _finish(artifact, tally, ledger, teacher)
        _check_coverage(tally, items.height, config)


def _distil_batch(batch: pl.DataFrame, config: KnowledgeConfig, desk: Desk, traces: TextIO) -> list[Case]:
    columns = batch.select("title", "brand", "category", "description")
    limit = config.max_description_chars
    cases = distil([read_product(row, max_description_chars=limit) for row in columns.iter_rows(named=True)], desk)
    traces.writelines(_trace_lines(batch["item_id"], cases))
    return cases


def _trace_lines(item_ids: pl.Series, cases: list[Case]) -> Iterator[str]:
    for item_id, case in zip(item_ids, cases, strict=True):
        trace = {
            "item_id": item_id,
            "status": case.status,
            "reasoning": case.reasoning,
            "objections": [objection.model_dump() for objection in case.objections],
            "dropped": dict(case.dropped),
            "fault": case.fault,
        }
        yield json.dumps(trace, ensure_ascii=False) + "\n"


def _count(batch: pl.DataFrame, cases: list[Case], tally: _Tally) -> None:
    for item_id, case in zip(batch["item_id"], cases, strict=True):
        tally.statuses[case.status] += 1
        tally.dropped += case.dropped
        if case.status == "invalid":
            tally.quarantine.append({"item_id": item_id, "reason": case.fault, "raw_answer": case.raw})


def _rows(batch: pl.DataFrame, cases: list[Case], teacher: Teacher) -> pl.DataFrame:
    nothing: dict[str, Any] = dict.fromkeys(("summary", *FACETS, "confidence"))
    rows = [
        {
            "item_id": item_id,
            "source_digest": case.product.digest,
            "status": case.status,
            **(to_row(case.record) if case.record and case.status == "ok" else nothing),
        }
        for item_id, case in zip(batch["item_id"], cases, strict=True)
    ]
    schema = {name: dtype for name, dtype in KNOWLEDGE.schema.items() if name in rows[0]}
    return pl.DataFrame(rows, schema=schema).with_columns(
        teacher=pl.lit(teacher.name), prompt_version=pl.lit(prompt_set_version())
    )


def _join_parts(parts: Path, path: Path) -> None:
    files = sorted(parts.iterdir())
    if files:
        pl.scan_parquet(files).sink_parquet(path, compression="zstd")
    else:
        write_table(path, KNOWLEDGE, KNOWLEDGE.empty())
    for file in files:
        file.unlink()
    parts.rmdir()


def _finish(artifact: Artifact, tally: _Tally, ledger: Ledger, teacher: Teacher) -> None:
    num_items = max(sum(tally.statuses.values()), 1)
    write_json(artifact.path / "ledger.json", ledger.as_dict())
    if tally.quarantine:
        frame = pl.DataFrame(tally.quarantine, schema=_QUARANTINE_SCHEMA)
        frame.write_parquet(artifact.path / "quarantine.parquet")
    artifact.metrics.update(ledger.total())
    artifact.metrics["coverage"] = tally.statuses["ok"] / num_items
    artifact.metrics["invalid_rate"] = tally.statuses["invalid"] / num_items
    artifact.metrics["claims_dropped"] = float(tally.dropped.total())
    artifact.labels.update(teacher=teacher.name, prompt_version=prompt_set_version())


def _check_invalid(tally: _Tally, num_items: int, config: KnowledgeConfig) -> None:
    # Against the whole catalogue and after each batch: a broken teacher stops the step before it costs much.
    if tally.statuses["invalid"] > config.max_invalid_rate * num_items:
        example = tally.quarantine[0]
        raise UserError(
            f"knowledge: {tally.statuses['invalid']} of {num_items} items got no valid answer, more than "
            f"max_invalid_rate {config.max_invalid_rate} allows. The first, item {example['item_id']}: "
            f"{example['reason']}. Valid answers are cached; mend the teacher and run again."
        )


def _check_coverage(tally: _Tally, num_items: int, config: KnowledgeConfig) -> None:
    coverage = tally.statuses["ok"] / max(num_items, 1)
    if coverage < config.min_coverage:
        raise UserError(
            f"knowledge: only {coverage:.1%} of {num_items} items are known to the teacher, below min_coverage "
            f"{config.min_coverage}. Add concepts to the handbook (teacher.folder), use a language model as teacher, "
            "or lower min_coverage."
        )
