"""Recorded answers of the agents as JSON lines, for knowledge that somebody already bought elsewhere.

One line per answer; the file may be compressed by gzip:

    {"agent": "demand_analyst", "title": "Red Mug", "answer": {"reasoning": "...", "recognized": true, ...}}

`agent` and `answer` (an object, or the text as it came) are needed. `title`, `brand` and `category` say which
products the answer is for: all that agree with every field that the line names. So a planner's line names at
most a category, and a line without any field answers for all. The line that names most fields wins, then the
first one. Products are known by their text, not by their id. Where you have ids, and claims without evidence,
write the compact form of `recorded_knowledge.py`.
"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints, ValidationError

from contracts.errors import UserError
from models.knowledge.agents.agent_roles import AGENT_NAMES
from models.knowledge.distillation.product_text import read_product
from models.knowledge.teachers.replay.recorded_knowledge import read_file_lines
from models.knowledge.teachers.teacher import TeacherRequest

_FIELDS = ("title", "brand", "category")
_TABLE = "CREATE TABLE recordings (agent TEXT, title TEXT, brand TEXT, category TEXT, answer TEXT)"
_FIND = """
SELECT answer FROM recordings
WHERE agent = ? AND title IN ('', ?) AND brand IN ('', ?) AND category IN ('', ?)
ORDER BY (title != '') + (brand != '') + (category != '') DESC, rowid LIMIT 1
"""

FieldText = Annotated[str, StringConstraints(min_length=1)]


class Recording(BaseModel):
    """One line of a file of recorded answers."""

    model_config = ConfigDict(extra="forbid")

    agent: str
    answer: dict[str, JsonValue] | str
    title: FieldText | None = None
    brand: FieldText | None = None
    category: FieldText | None = None


class RecordedAnswers:
    """Recorded answers, in a database of this process alone that spills to disk: memory stays bounded."""

    def __init__(self, path: Path) -> None:
        """Reads a file of JSON lines.

        Raises:
            UserError: the file is not there, or a line is no recording.
        """
        # "" is a private database that SQLite keeps in memory and spills to a temporary file.
        self._connection = sqlite3.connect("", check_same_thread=False)
        self._connection.execute(_TABLE)
        self._connection.executemany("INSERT INTO recordings VALUES (?,?,?,?,?)", _read_recordings(path))
        self._connection.execute("CREATE INDEX by_title ON recordings (agent, title)")

    def find_recorded_answer(self, request: TeacherRequest) -> str | None:
        """The recorded answer to a request; a repair gets the same answer again."""
        input_fields = request.agent_input.model_dump(include={"product", "category"})
        product_fields = input_fields.get("product", input_fields)
        row = self._connection.execute(
            _FIND, (request.agent, *(product_fields.get(name, "") for name in _FIELDS))
        ).fetchone()
        return row[0] if row else None


def _read_recordings(path: Path) -> Iterator[tuple[Any, ...]]:
    for line_number, line in read_file_lines(path):
        line_place = f"teacher.recordings: {path}, line {line_number}"
        try:
            recording = Recording.model_validate_json(line)
        except ValidationError as error:
            first_error = error.errors()[0]
            field_name = ".".join(map(str, first_error["loc"])) or "line"
            raise UserError(f"{line_place}: {field_name}: {first_error['msg']}") from error
        if recording.agent not in AGENT_NAMES:
            raise UserError(
                f"{line_place}: agent '{recording.agent}' unknown; known: {', '.join(AGENT_NAMES)}"
            )
        answer = recording.answer
        answer_text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        # Cleaned and cut as the catalogue's products are, so that they can be compared.
        product_fields = {name: getattr(recording, name) for name in _FIELDS}
        cleaned_product = read_product({**product_fields, "description": None})
        yield (
            recording.agent,
            cleaned_product.title,
            cleaned_product.brand,
            cleaned_product.category,
            answer_text,
        )
