"""Artifacts of knowledge that were copied in part, cut off, or are of another kind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from contracts.errors import UserError
from models.knowledge.config import KnowledgeConfig
from models.knowledge.distillation.describe_item import describe_item
from models.knowledge.distillation.distill_knowledge import LEDGER_FILE, distill_knowledge
from models.knowledge.distillation.finished_records import KNOWLEDGE_FILE, TRACE_FILE
from models.knowledge.reporting.knowledge_figures import read_knowledge_figures
from models.knowledge.reporting.teacher_agreement import compare_knowledge
from reaseq.cli import main

LINES = [
    {"item_id": "a", "kind": "tea pot", "demands": ["brew tea"]},
    {"item_id": "b", "kind": "desk lamp", "demands": ["read at night"]},
]


@pytest.fixture
def knowledge(write_dataset: Any, tmp_path: Path) -> Path:
    recordings = tmp_path / "k.jsonl"
    recordings.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    config = KnowledgeConfig.model_validate({"teacher": {"kind": "replay", "recordings": recordings}})
    dataset = write_dataset([{"item_id": "a", "title": "Pot"}, {"item_id": "b", "title": "Lamp"}])
    distill_knowledge(dataset, config, cache=tmp_path / "cache", out=tmp_path / "knowledge")
    return tmp_path / "knowledge"


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def write_list(path: Path) -> None:
    path.write_text("[]\n")


@pytest.mark.parametrize("damage", [Path.unlink, cut_off, write_list])
@pytest.mark.parametrize("name", [KNOWLEDGE_FILE, TRACE_FILE, LEDGER_FILE])
def test_a_report_names_the_file_that_is_damaged(
    knowledge: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(knowledge / name)
    is_no_knowledge = name == KNOWLEDGE_FILE and damage is Path.unlink
    with pytest.raises(UserError, match="holds no knowledge" if is_no_knowledge else f"{name} is missing or"):
        read_knowledge_figures(knowledge)


@pytest.mark.parametrize("damage", [Path.unlink, cut_off, write_list])
def test_an_item_without_its_trace_is_told_of(knowledge: Path, damage: Callable[[Path], None]) -> None:
    damage(knowledge / TRACE_FILE)
    with pytest.raises(UserError, match=rf"{TRACE_FILE} is missing or damaged"):
        describe_item(knowledge, "b")


def test_a_table_of_other_columns_is_refused(knowledge: Path, tmp_path: Path) -> None:
    other = shutil.copytree(knowledge, tmp_path / "other")
    pl.DataFrame({"item_id": ["a"]}).write_parquet(other / KNOWLEDGE_FILE)
    for read in (read_knowledge_figures, lambda folder: describe_item(folder, "a")):
        with pytest.raises(UserError, match="is not a 'knowledge' table"):
            read(other)
    with pytest.raises(UserError, match="is not a 'knowledge' table"):
        compare_knowledge(knowledge, other)


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in (tmp_path, tmp_path / "nowhere" / "page.html"):
        assert main(["knowledge", "report", "--knowledge", "missing", "--out", str(out)]) == 2
        assert f"--out {out}: give the name of a file" in capsys.readouterr().err
