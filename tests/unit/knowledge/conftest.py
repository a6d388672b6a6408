"""Tiny catalogues and scripted teachers."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tiny_catalogue import SHOP

from contracts.artifacts import create_artifact, write_json, write_table
from contracts.tables import EVENTS, ITEMS
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse, TokenPrice

START = datetime(2026, 1, 1, tzinfo=UTC)

WriteDataset = Callable[[Sequence[dict[str, Any]]], Path]


@pytest.fixture
def write_dataset(tmp_path: Path) -> WriteDataset:
    """Writes a dataset artifact of the given items and one event."""

    def write(items: Sequence[dict[str, Any]]) -> Path:
        out = tmp_path / f"dataset-{len(list(tmp_path.iterdir()))}"
        frame = pl.DataFrame(list(items), schema={name: ITEMS.schema[name] for name in ITEMS.schema})
        event = {"user_id": "u", "timestamp": START, "item_id": items[0]["item_id"], "event_type": "click"}
        with create_artifact(out, kind="dataset", inputs={}) as artifact:
            write_table(artifact.path / "items.parquet", ITEMS, frame)
            write_table(artifact.path / "events.parquet", EVENTS, pl.DataFrame([event]))
            write_json(
                artifact.path / "split.json", dict.fromkeys(("train_end", "validation_end", "cutoff"), START)
            )
        return out

    return write


class ScriptedTeacher:
    """Answers by a function of the request; keeps what it was asked."""

    name = "scripted-1"
    price = TokenPrice(1.0, 2.0)

    def __init__(self, script: Callable[[TeacherRequest], TeacherResponse]) -> None:
        self.script = script
        self.asked: list[TeacherRequest] = []
        self.sampling: dict[str, Any] = {}

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        # Backwards: answers may come in any order.
        for number, request in reversed(list(enumerate(requests))):
            self.asked.append(request)
            yield self.script(request)._replace(number=number)


@pytest.fixture
def scripted() -> type[ScriptedTeacher]:
    """The class of scripted teachers."""
    return ScriptedTeacher


@pytest.fixture
def shop() -> list[dict[str, Any]]:
    """Four items: three that the handbook knows and one that it does not."""
    return [dict(item) for item in SHOP]
