"""Recorded answers of a real language model (Mixtral on Amazon Fashion) go through the whole step."""

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from model_processes import ROOT

from contracts.artifacts import read_lineage, read_table
from contracts.errors import UserError
from contracts.tables import KNOWLEDGE
from models.knowledge.config import KnowledgeConfig, ReplayTeacherConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.knowledge_schema import record_from_row

pytestmark = pytest.mark.integration

DATA = (
    Path(os.environ.get("REASEQ_BENCH_DATA", ROOT.parent / "shared/data"))
    / "fashion/mixtral_fashion_items.jsonl.gz"
)
NUM_ITEMS = 600
NUM_MISSING = 5
AUDIENCE = re.compile(r"\b(women|men|girl|boy|lady|ladies|unisex|kids|baby)\w*", re.IGNORECASE)


def claim(text: str, evidence: str, source: str) -> dict[str, Any]:
    return {"text": text[:160], "evidence": evidence[:320], "source": source, "confidence": 0.6}


def adapt(title: str, description: str) -> Iterator[dict[str, Any]]:
    """One free text becomes what the agents would have answered: its sentences are claims."""
    sentences = [part for part in re.split(r"(?<=[.!?])\s+", description) if part]
    audience = AUDIENCE.search(title)
    demand = {
        "summary": description[:320],
        "demands": [claim(sentences[0], "a language model's reading of reviews", "reasoning")],
        "audiences": [claim(f"for {audience[0].lower()}", audience[0], "catalogue")] if audience else [],
        "scenarios": [],
    }
    attribute = {
        "attributes": [
            claim(text, "a language model's reading of reviews", "reasoning") for text in sentences[1:3]
        ],
        # What no catalogue says must fall, whoever claims it.
        "complements": [claim("a quotation that was made up", "zq quoted from nowhere zq", "catalogue")],
        "substitutes": [],
        "lifecycle": [],
    }
    reasoning = {"reasoning": description[:1600]}
    yield {"agent": "demand_analyst", "title": title, "answer": reasoning | demand | {"recognized": True}}
    yield {
        "agent": "attribute_analyst",
        "title": title,
        "answer": reasoning | attribute | {"recognized": True},
    }
    yield {
        "agent": "editor",
        "title": title,
        "answer": {"reasoning": "As drafted.", "record": demand | attribute},
    }


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Mixtral's text by title."""
    if not DATA.is_file():
        pytest.skip(f"needs {DATA} (set REASEQ_BENCH_DATA)")
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    found = {
        item["title"]: item["llm_description"] for item in reversed(items) if item["llm_description"].strip()
    }
    return dict(list(found.items())[:NUM_ITEMS])


def record(path: Path, texts: dict[str, str]) -> ReplayTeacherConfig:
    """Writes the recordings; the last items have none, and that of the first is broken."""
    plan = {
        "reasoning": "Clothes: fit decides.",
        "product_kind": "clothing",
        "focus": ["fit"],
        "pitfalls": [],
    }
    lines: list[dict[str, Any]] = [
        {"agent": "planner", "answer": plan},
        {"agent": "critic", "answer": {"reasoning": "Nothing was reviewed.", "objections": []}},
    ]
    for title, description in list(texts.items())[:-NUM_MISSING]:
        lines += adapt(title, description)
    lines[2]["answer"] = "The product is a"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return ReplayTeacherConfig(kind="replay", recordings=path)


def test_recorded_answers_become_knowledge(
    tmp_path: Path, texts: dict[str, str], write_dataset: Callable[..., Path]
) -> None:
    config = KnowledgeConfig(teacher=record(tmp_path / "recordings.jsonl", texts))
    out = tmp_path / "knowledge"
    distill_knowledge(write_dataset(*texts), config, cache=tmp_path / "cache", out=out)

    frame = read_table(out / "knowledge.parquet", KNOWLEDGE)
    assert frame.height == len(texts)
    titles = list(texts)
    known = frame.filter(pl.col("status") == "ok")
    assert known.height == len(texts) - NUM_MISSING - 1
    for row in known.head(50).iter_rows(named=True):
        knowledge = record_from_row(row)
        assert knowledge.summary == texts[titles[int(row["item_id"])]][:320].strip()
        assert knowledge.complements == ()
        assert all(placed.claim.evidence for placed in knowledge.iterate_claims())
    assert known["teacher"].str.starts_with("replay-").all()

    traces = [json.loads(line) for line in (out / "traces.jsonl").read_text(encoding="utf-8").splitlines()]
    assert traces[1]["reasoning"]["demand_analyst"] == texts[titles[1]].strip()[:1600]
    assert "quotation not in the catalogue" in json.dumps(traces[1]["dropped"])

    quarantine = {
        row["item_id"]: row for row in pl.read_parquet(out / "quarantine.parquet").iter_rows(named=True)
    }
    assert quarantine.keys() == {"0", *(str(len(texts) - 1 - place) for place in range(NUM_MISSING))}
    assert "Invalid JSON" in quarantine["0"]["reason"]
    assert quarantine["0"]["raw_answer"] == "The product is a"
    missing = quarantine[str(len(texts) - 1)]["reason"]
    assert "no recorded answer" in missing

    ledger = json.loads((out / "ledger.json").read_text(encoding="utf-8"))["paid"]["agents"]
    assert ledger["planner"]["requests"] == 1  # one category
    assert ledger["demand_analyst"]["requests"] == len(texts)
    assert ledger["editor"]["invalid"] == 0
    assert read_lineage(out).metrics["money"] == 0


def test_too_many_missing_answers_fail_the_gate(
    tmp_path: Path, texts: dict[str, str], write_dataset: Callable[..., Path]
) -> None:
    few = dict(list(texts.items())[: 4 * NUM_MISSING])
    config = KnowledgeConfig(teacher=record(tmp_path / "recordings.jsonl", few))
    with pytest.raises(UserError, match=r"no recorded answer|Invalid JSON"):
        distill_knowledge(write_dataset(*few), config, cache=tmp_path / "cache", out=tmp_path / "knowledge")
