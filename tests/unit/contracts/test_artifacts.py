"""Artifacts appear whole or not at all, and their lineage answers for everything upstream."""

import polars as pl
import pytest

from contracts.artifacts import create_artifact, read_lineage, read_table, verify_artifact, write_table
from contracts.errors import UserError
from contracts.tables import EVENTS, ITEMS


def test_a_failed_step_leaves_nothing_behind_and_keeps_what_was_there(tmp_path):
    out = tmp_path / "dataset"
    with create_artifact(out, kind="dataset", inputs={}) as artifact:
        (artifact.path / "a.txt").write_text("old")

    def fail_half_way():
        with create_artifact(out, kind="dataset", inputs={}) as artifact:
            (artifact.path / "a.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()

    assert (out / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["dataset"]


def test_the_lineage_chain_holds_everything_upstream(tmp_path):
    for name, parent in (("first", None), ("second", "first"), ("third", "second")):
        inputs = {parent: tmp_path / parent} if parent else {}
        with create_artifact(tmp_path / name, kind=name, inputs=inputs) as artifact:
            (artifact.path / "content").write_text(name)
            artifact.metrics["size"] = len(name)

    lineage = read_lineage(tmp_path / "third")

    assert {entry["kind"] for entry in lineage.chain.values()} == {"first", "second"}
    assert lineage.inputs["second"] == read_lineage(tmp_path / "second").digest
    assert lineage.metrics == {"size": 5.0}


def test_reading_what_is_not_an_artifact_says_so(tmp_path):
    with pytest.raises(UserError, match="not a complete artifact"):
        read_lineage(tmp_path)


def test_a_table_of_other_columns_is_refused(tmp_path):
    write_table(tmp_path / "items.parquet", ITEMS, pl.DataFrame({"item_id": ["a"], "title": ["A"]}))

    assert read_table(tmp_path / "items.parquet", ITEMS)["title"].to_list() == ["A"]
    with pytest.raises(UserError, match="is not a 'events' table"):
        read_table(tmp_path / "items.parquet", EVENTS)


def test_an_artifact_changed_after_it_was_made_is_refused(tmp_path):
    with create_artifact(tmp_path / "a", kind="notes", inputs={}) as artifact:
        (artifact.path / "note.txt").write_text("as evaluated")
    assert verify_artifact(tmp_path / "a").kind == "notes"
    (tmp_path / "a" / "note.txt").write_text("as somebody liked it better")
    with pytest.raises(UserError, match="changed after it was made"):
        verify_artifact(tmp_path / "a")
