"""Recorded knowledge of items: what is read, what is wrong with a file, what the agents answer."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from contracts.artifacts import read_lineage, read_table
from contracts.errors import UserError
from contracts.shards import Shard
from contracts.tables import KNOWLEDGE
from models.knowledge.config import KnowledgeConfig
from models.knowledge.distillation.describe_item import describe_item
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.distillation.merge_knowledge import merge_knowledge
from models.knowledge.teachers.replay.recorded_knowledge import ItemKnowledge

CATALOGUE = [
    {"item_id": "a", "title": "Oak shelf bracket, 12,000 g, .5 inch, 1/4 hole", "category": "Home > Shelves"},
    {"item_id": "b", "title": "Tea strainer", "category": "Kitchen"},
    {"item_id": "c", "title": "Tea strainer", "category": "Kitchen"},
    {"item_id": "d", "title": "Qwxzt", "category": None},
]
BRACKET = {
    "item_id": "a",
    "kind": "shelf bracket",
    "demands": ["hang a shelf"],
    "audiences": ["tenant"],
    "features": ["12000 g load", "1/2 inch thick", "0.25 hole", "made of oak", "9 screws"],
    "complements": ["wall plugs", "shelf bracket", "spirit level"],
    "substitutes": ["floor shelf", "spirit level"],
    "lifecycle": "durable",
}
STRAINER = {"item_id": "b", "kind": "tea strainer", "complements": ["teapot"], "lifecycle": ["durable"]}
OTHERS = [STRAINER, STRAINER | {"item_id": "c"}, {"item_id": "d", "kind": "unknown"}]


def write_lines(path: Path, *lines: Any) -> Path:
    texts = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def distill(write_dataset: Any, path: Path, catalogue: Sequence[dict[str, Any]] = CATALOGUE) -> Path:
    knowledge = KnowledgeConfig.model_validate(
        {"teacher": {"kind": "replay", "recordings": path}, "max_invalid_rate": 0.5}
    )
    dataset = write_dataset(catalogue)
    out = dataset / "../knowledge"
    distill_knowledge(dataset, knowledge, cache=dataset / "../cache", out=out)
    return out


def test_knowledge_of_items_goes_through_critic_and_rules(tmp_path: Path, write_dataset: Any) -> None:
    out = distill(write_dataset, write_lines(tmp_path / "k.jsonl", BRACKET, *OTHERS))
    rows = {row["item_id"]: row for row in read_table(out / "knowledge.parquet", KNOWLEDGE).to_dicts()}
    assert [rows[item]["status"] for item in "abcd"] == ["ok", "ok", "ok", "unknown"]
    assert rows["a"]["summary"] == "shelf bracket"
    attributes = {claim["text"]: round(claim["confidence"], 4) for claim in rows["a"]["attributes"]}
    assert attributes.pop("9 screws") == 0.35, "no figure of the catalogue, so it is doubted"
    assert set(attributes.values()) == {0.7}, "the same figures, otherwise written"
    assert [claim["text"] for claim in rows["a"]["complements"]] == ["wall plugs", "spirit level"]
    assert [claim["text"] for claim in rows["a"]["substitutes"]] == ["floor shelf"]
    assert read_lineage(out).metrics["dropped_objected_to"] == 2
    text = describe_item(out, "a")
    assert "takes it for this kind of product: shelf bracket" in text
    assert "it is said to go with the product, so it does not stand in for it" in text
    assert "the catalogue does not say 9" in text


@pytest.mark.parametrize(
    ("title", "claim"),
    [
        ("سماعات \u0665\u066b\u0663", "5.3"),
        ("Flasche 1,5 L", "1.5 L"),
        ("Bottle 1.5 L", "1,5 L"),
        ("Sack 1.000 g", "1000 g"),
        ("Bolt 1½ inch", "1.5 inch"),
        ("Bolt 1 1/2 inch", "1.5 inch"),
        ("Lens 5·5", "5.5"),
        ("杯 ５００毫升", "500毫升"),
        ("Valve 2.4.1", "version 2.4.1"),
        ("Thread 1/0", "1/0"),
    ],
)
def test_a_figure_is_known_however_it_is_written(
    title: str, claim: str, tmp_path: Path, write_dataset: Any
) -> None:
    line = {"item_id": "a", "kind": "thing", "features": [claim, "77 pieces"]}
    catalogue = [{"item_id": "a", "title": title, "category": None}]
    out = distill(write_dataset, write_lines(tmp_path / "k.jsonl", line), catalogue)
    (claims,) = read_table(out / "knowledge.parquet", KNOWLEDGE)["attributes"].to_list()
    assert [round(one["confidence"], 2) >= 0.7 for one in claims] == [True, False]


def test_what_the_catalogue_says_word_for_word_is_quoted(tmp_path: Path, write_dataset: Any) -> None:
    line = STRAINER | {"features": ["tea strainer", "fine mesh", "strainers"]}
    out = distill(write_dataset, write_lines(tmp_path / "k.jsonl", BRACKET, *OTHERS[1:], line))
    row = read_table(out / "knowledge.parquet", KNOWLEDGE).row(1, named=True)
    claims = [(claim["text"], claim["source"], round(claim["confidence"], 4)) for claim in row["attributes"]]
    assert claims == [
        ("tea strainer", "catalogue", 0.9),
        ("fine mesh", "reasoning", 0.7),
        ("strainers", "reasoning", 0.7),
    ]


def test_evidence_that_claims_share_is_told_once(tmp_path: Path, write_dataset: Any) -> None:
    out = distill(write_dataset, write_lines(tmp_path / "k.jsonl", BRACKET, *OTHERS))
    text, _, _ = describe_item(out, "a").partition("dropped claims")
    assert text.count("recorded, without a reason") == 6, "once a facet"


def test_a_compressed_file_with_a_mark_of_byte_order_says_the_same(
    tmp_path: Path, write_dataset: Any
) -> None:
    plain = write_lines(tmp_path / "k.jsonl", BRACKET, b"", *OTHERS)
    packed = tmp_path / "k.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    outs = [distill(write_dataset, path) for path in (plain, packed)]
    frames = [read_table(out / "knowledge.parquet", KNOWLEDGE).drop("teacher") for out in outs]
    assert frames[0].equals(frames[1])


FAULTS = [
    ("not_in_catalogue", STRAINER | {"item_id": "zebra"}, "item zebra"),
    ("broken", b"{not json", "line 6: line: Invalid JSON"),
    ("broken", b'{"item_id": "b", "kind": "\xff"}', "line 6"),
    ("broken", b'["b"]', "line 6"),
    ("broken", {"kind": "tea strainer"}, "line 6: item_id: Field required"),
    ("broken", {"item_id": "z", "demands": ["x" * 161]}, "line 6: demands.0: String should have at most 160"),
    ("broken", {"item_id": "z", "demands": ["x"] * 9}, "line 6: demands: Tuple should have at most 8"),
    ("broken", {"item_id": "z", "demands": "make tea"}, "line 6: demands"),
    ("broken", {"item_id": "z", "colour": "red"}, "line 6: colour: Extra inputs are not permitted"),
    ("repeated", BRACKET | {"kind": "book end"}, "line 6: item a"),
    ("other_version", {"item_id": "z", "version": 2, "claims": []}, "line 6: version 2"),
    ("other_version", {"version": 2, "id": "z"}, "line 6: version 2"),
]


@pytest.mark.parametrize(("name", "line", "example"), FAULTS)
def test_a_line_that_is_wrong_is_counted_and_told(
    name: str,
    line: Any,
    example: str,
    tmp_path: Path,
    write_dataset: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = distill(write_dataset, write_lines(tmp_path / "k.jsonl", b"", BRACKET, *OTHERS, line))
    assert read_table(out / "knowledge.parquet", KNOWLEDGE)["summary"].to_list()[0] == "shelf bracket"
    metrics = {key: value for key, value in read_lineage(out).metrics.items() if key.startswith("recorded_")}
    faults = {"recorded_unknown": 1, "recorded_items_same_text": 1, f"recorded_{name}": 1}
    assert metrics == {"recorded_lines": 5, "recorded_joined": 4, **faults}
    told = capsys.readouterr().err
    assert f", the first {example}" in told


def test_an_item_without_a_line_stands_in_the_quarantine(
    tmp_path: Path, write_dataset: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = distill(write_dataset, write_lines(tmp_path / "k.jsonl", BRACKET, *OTHERS[:2]))
    (row,) = pl.read_parquet(out / "quarantine.parquet").to_dicts()
    assert row["item_id"] == "d"
    assert "no recorded answer" in row["reason"]
    assert read_lineage(out).metrics["recorded_items_without_line"] == 1
    assert "1 items have no recorded answer" in capsys.readouterr().err


def test_a_line_about_another_product_is_left_out(
    tmp_path: Path, write_dataset: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (BRACKET | {"title": " Oak  shelf bracket, 12,000 g, .5 inch, 1/4 hole"}, *OTHERS[:2])
    out = distill(write_dataset, write_lines(tmp_path / "k.jsonl", *lines, {"item_id": "d", "title": "Pen"}))
    metrics = read_lineage(out).metrics
    assert (metrics["recorded_joined"], metrics["recorded_other_title"]) == (3, 1)
    assert "'Pen' for 'Qwxzt'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"item_id": "zebra", "kind": "x"}\n', r"none of the 1 lines .*item zebra.*ids those of another"),
        (b'{"item_id": "a", "version": 7}\n', r"no recorded knowledge: line 1: version 7"),
        (b'{"item_id": "a", "kind": []}\n' * 3, r"no recorded knowledge: line 1: kind"),
        (gzip.compress(b'{"item_id": "a", "kind": "x"}\n' * 999, mtime=0)[:40], "is damaged"),
    ],
)
def test_a_file_that_says_nothing_of_the_catalogue_is_refused(
    content: bytes, complaint: str, tmp_path: Path, write_dataset: Any
) -> None:
    (tmp_path / "k.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        distill(write_dataset, tmp_path / "k.jsonl")


def test_answers_that_share_no_word_with_their_products_are_told(
    tmp_path: Path, write_dataset: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [{"item_id": str(number), "title": f"Lamp {number} w"} for number in range(60)]
    shifted = [{"item_id": str(number), "kind": "garden hose", "demands": ["water"]} for number in range(60)]
    distill(write_dataset, write_lines(tmp_path / "k.jsonl", *shifted), items)
    assert "60 items have no word in common with their answer" in capsys.readouterr().err


def test_shards_say_what_one_run_says(
    tmp_path: Path, write_dataset: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(tmp_path / "k.jsonl", BRACKET, *OTHERS)
    config = KnowledgeConfig.model_validate({"teacher": {"kind": "replay", "recordings": path}})
    dataset = write_dataset(CATALOGUE)
    shards = [tmp_path / f"shard-{number}" for number in range(2)]
    for number, out in enumerate(shards):
        distill_knowledge(dataset, config, cache=tmp_path / "cache", out=out, shard=Shard(number, 2))
    told = capsys.readouterr().err
    assert told.count("4 recorded answers") == 1
    merge_knowledge(dataset, shards, config, cache=tmp_path / "cache", out=tmp_path / "merged")
    distill_knowledge(dataset, config, cache=tmp_path / "cache", out=tmp_path / "whole")
    merged, whole = (
        read_table(tmp_path / name / "knowledge.parquet", KNOWLEDGE) for name in ("merged", "whole")
    )
    assert merged.equals(whole)
    assert read_lineage(tmp_path / "merged").metrics["recorded_joined"] == 4


def test_the_same_ids_in_another_catalogue_are_another_teacher(tmp_path: Path, write_dataset: Any) -> None:
    path = write_lines(tmp_path / "k.jsonl", BRACKET, STRAINER, *OTHERS[1:])
    swapped = [
        item | {"item_id": other["item_id"]} for item, other in zip(CATALOGUE, CATALOGUE[::-1], strict=True)
    ]
    names = [
        read_table(distill(write_dataset, path, items) / "knowledge.parquet", KNOWLEDGE)["teacher"][0]
        for items in (CATALOGUE, swapped)
    ]
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n \n", "it is empty"),
        (b'[{"item_id": "a"}]\n', "should be an object"),
        (b'{\n "item_id": "a"\n}\n', "line 1: Invalid JSON"),
        (b'{"id": "a", "kind": "mug"}\n', "its keys are id, kind"),
        ('{"item_id": "a"}\n'.encode("utf-16"), "in UTF-8"),
    ],
)
def test_a_file_of_another_form_is_told_with_a_remedy(
    content: bytes, words: str, tmp_path: Path, write_dataset: Any
) -> None:
    path = tmp_path / "k.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"one JSON object a line") as error:
        distill(write_dataset, path)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        {"item_id": 17.0, "kind": "mug"},
        {"item_id": "17.0", "kind": "mug"},
        {"item_id": " 17 ", "kind": "mug", "version": "1"},
        {"item_id": "17", "kind": "mug", "title": "red  MUG", "demands": None, "confidence": None},
    ],
)
def test_ids_and_titles_are_compared_by_what_they_mean(
    line: dict[str, Any], tmp_path: Path, write_dataset: Any
) -> None:
    catalogue = [{"item_id": "17", "title": "Red mug", "category": "Mugs"}]
    path = write_lines(tmp_path / "k.jsonl", line | {"features": ["red"]})
    out = distill(write_dataset, path, catalogue)
    assert read_table(out / "knowledge.parquet", KNOWLEDGE)["status"].to_list() == ["ok"]


@pytest.mark.parametrize("kind", [None, "", "N/A", "Unknown", "-"])
def test_a_kind_that_says_nothing_is_unknown(kind: str | None, tmp_path: Path, write_dataset: Any) -> None:
    catalogue = [{"item_id": "17", "title": "Red mug", "category": "Mugs"}]
    out = distill(
        write_dataset, write_lines(tmp_path / "k.jsonl", {"item_id": "17", "kind": kind}), catalogue
    )
    assert read_table(out / "knowledge.parquet", KNOWLEDGE)["status"].to_list() == ["unknown"]


@pytest.mark.parametrize(
    ("kind", "is_known"),
    [
        ("unknown", False),
        ("Unknown.", False),
        ("N/A", False),
        ("n.a.", False),
        (None, False),
        ("Lamp.", True),
    ],
)
def test_a_kind_that_says_nothing_is_unknown_however_it_is_written(kind: str | None, is_known: bool) -> None:
    assert ItemKnowledge.model_validate({"item_id": "i", "kind": kind}).is_known == is_known
