"""Figures of a knowledge artifact, the page of them, and the comparison of two artifacts."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import UserError
from models.knowledge.config import EmbeddingConfig, KnowledgeConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.embedding.embed_items import embed_items
from models.knowledge.embedding.nearest_items import find_neighbors
from models.knowledge.reporting.knowledge_figures import read_knowledge_figures
from models.knowledge.reporting.knowledge_page import render_knowledge_page
from models.knowledge.reporting.teacher_agreement import compare_knowledge
from reaseq.cli import main

HOSTILE = "<script>alert(1)</script> \u202e & 'pot'"
ITEMS = [
    {"item_id": "a", "title": f"Tea pot {HOSTILE}"},
    {"item_id": "b", "title": "Desk lamp 9 w"},
    {"item_id": "c", "title": "Garden hose"},
    {"item_id": "d", "title": "Qwxzt"},
]
LINES = [
    {
        "item_id": "a",
        "kind": HOSTILE,
        "demands": ["brew tea for guests"],
        "features": ["tea pot", "holds 7 cups"],
        "complements": ["tea", "tray"],
        "substitutes": ["tray"],
    },
    {"item_id": "b", "kind": "desk lamp", "demands": ["read at night"], "features": ["desk lamp"]},
    {"item_id": "c", "kind": "garden hose", "demands": ["water the lawn"], "confidence": 0.3},
]
OTHER_LINES = [
    {"item_id": "a", "kind": "pot of clay", "demands": ["cook rice"], "features": ["glazed"]},
    {"item_id": "b", "kind": "desk lamp", "demands": ["read at night"], "features": ["desk lamp"]},
    {"item_id": "c", "kind": "hose", "demands": ["water the garden"], "confidence": 0.3},
]


def distill(write_dataset: Any, folder: Path, lines: list[dict[str, Any]], items: Any = ITEMS) -> Path:
    folder.mkdir()
    recordings = folder / "k.jsonl"
    recordings.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = KnowledgeConfig.model_validate(
        {"teacher": {"kind": "replay", "recordings": recordings}, "max_invalid_rate": 1}
    )
    distill_knowledge(write_dataset(items), config, cache=folder / "cache", out=folder / "knowledge")
    return folder / "knowledge"


@pytest.fixture
def knowledge(write_dataset: Any, tmp_path: Path) -> Path:
    return distill(write_dataset, tmp_path / "one", LINES)


@pytest.fixture
def other(write_dataset: Any, tmp_path: Path) -> Path:
    return distill(write_dataset, tmp_path / "other", OTHER_LINES)


def test_figures_count_what_is_known_quoted_and_lost(knowledge: Path) -> None:
    figures = read_knowledge_figures(knowledge, num_shown=1)
    assert figures.statuses == {"ok": 3, "invalid": 1}
    assert figures.coverage == 0.75
    facets = {facet.facet: facet for facet in figures.facets}
    assert facets["attributes"][1:3] == (3, 2)
    assert facets["attributes"].num_items == 2
    assert facets["substitutes"].num_claims == 0
    assert figures.tally.dropped == {("objected to", "substitutes"): 1}
    assert figures.tally.objections == {("drop", "substitutes"): 1, ("weaken", "attributes"): 1}
    assert sum(figures.tally.faults.values()) == 1
    assert [item.item_id for item in figures.least_certain] == ["c"]
    assert [item.item_id for item in figures.most_certain] == ["b"]
    assert figures.paid["demand_analyst"]["requests"] == 4


class _Page(HTMLParser):
    """Verifies that tags are closed and keeps what would run or load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.dangers: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "link", "iframe", "object", "base", "form"):
            self.dangers.append(tag)
        self.dangers += [name for name, _ in attributes if name in ("src", "href") or name.startswith("on")]
        if tag != "meta":
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_whole_and_runs_nothing(
    knowledge: Path, other: Path, write_dataset: Any, tmp_path: Path
) -> None:
    config = EmbeddingConfig.model_validate({"dimension": 2, "contrast": {"epochs": 0, "num_folds": 0}})
    dataset = write_dataset(ITEMS)
    embed_items(dataset, knowledge, config, out=tmp_path / "space")
    neighbors = {"c": find_neighbors(tmp_path / "space", dataset / "items.parquet", "c", count=2)}
    text = render_knowledge_page(
        read_knowledge_figures(knowledge), neighbors, compare_knowledge(knowledge, other)
    )
    page = _Page(text)
    assert not page.open_tags
    assert not page.dangers
    shown = " ".join(page.texts)
    assert "<script>alert(1)</script>" in shown, "shown, not run"
    assert "\u202e" not in text
    for words in ("75.0% of 4 items", "the catalogue does not say 7", "objected to", "no recorded answer"):
        assert words in shown
    assert "items without line" in shown


def test_agreement_is_measured_item_by_item(knowledge: Path, other: Path) -> None:
    comparison = compare_knowledge(knowledge, other)
    assert (comparison.num_items, comparison.num_compared) == (4, 3)
    assert comparison.coverages == (0.75, 0.75)
    assert comparison.most_different[0][0] == "a"
    demands = next(facet for facet in comparison.facets if facet.facet == "demands")
    assert demands.by_chance < demands.agreement < 1
    same = compare_knowledge(knowledge, knowledge)
    assert all(facet.corrected == pytest.approx(1) for facet in same.facets if facet.claims_per_item[0])
    assert not same.find_drift(min_agreement=0.99, max_coverage_change=0)


def test_a_claim_without_words_agrees_with_itself(write_dataset: Any, tmp_path: Path) -> None:
    items = [{"item_id": "a", "title": "Balloon 🎈", "category": None}]
    lines = [{"item_id": "a", "kind": "🎈", "features": ["🎈"]}]
    out = distill(write_dataset, tmp_path / "one", lines, items)
    agreements = {one.facet: one.agreement for one in compare_knowledge(out, out).facets}
    assert agreements["summary"] == agreements["attributes"] == 1


def test_items_whose_text_has_changed_are_not_compared(
    knowledge: Path, write_dataset: Any, tmp_path: Path
) -> None:
    changed = [ITEMS[0] | {"title": "Coffee pot"}, *ITEMS[1:]]
    comparison = compare_knowledge(knowledge, distill(write_dataset, tmp_path / "new", LINES, changed))
    assert (comparison.num_items, comparison.num_other_text, comparison.num_compared) == (3, 1, 2)


def test_nothing_in_common_is_said(knowledge: Path, write_dataset: Any, tmp_path: Path) -> None:
    items = [item | {"item_id": item["item_id"] * 2} for item in ITEMS]
    lines = [line | {"item_id": line["item_id"] * 2} for line in LINES]
    with pytest.raises(UserError, match=r"no item .* is known to both .* \(0 ids are in both\)"):
        compare_knowledge(knowledge, distill(write_dataset, tmp_path / "new", lines, items))


def test_the_command_line_writes_the_page_and_finds_drift(
    knowledge: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    options = ["--knowledge", str(knowledge)]
    assert main(["knowledge", "report", *options, "--against", str(other), "--out", str(out)]) == 0
    assert "75.0% of 4 items have knowledge" in capsys.readouterr().out
    assert "Agreement" in out.read_text(encoding="utf-8")
    assert main(["knowledge", "drift", *options, "--against", str(knowledge)]) == 0
    assert "no drift" in capsys.readouterr().out
    assert main(["knowledge", "drift", *options, "--against", str(other), "--min-agreement", "0.9"]) == 1
    assert "drift: demands: agreement" in capsys.readouterr().out
