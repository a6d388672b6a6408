"""Recorded answers as JSON lines, for knowledge that somebody already bought elsewhere.

One line per answer:

    {"agent": "demand_analyst", "title": "Red Mug", "answer": {"reasoning": "...", "recognised": true, ...}}

`agent` and `answer` (an object, or the text as it came) are needed; `title`, `brand` and `category` say which products
the answer is for: all that agree with every field that the line names. So a planner's line names at most a category,
and a line without any field answers for all. The line that names most fields wins, then the first one. Products are
known by their text, not by their id: join your answers with the catalogue first.
"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints, ValidationError

from contracts.errors import UserError
from models.knowledge.agents.roles import AGENT_NAMES
from models.knowledge.products import read_product
from models.knowledge.teachers.base import Request

_FIELDS = ("title", "brand", "category")
_TABLE = "CREATE TABLE recordings (agent TEXT, title TEXT, brand TEXT, category TEXT, answer TEXT)"
_FIND = """
SELECT answer FROM recordings
WHERE agent = ? AND title IN ('', ?) AND brand IN ('', ?) AND category IN ('', ?)
ORDER BY (title != '') + (brand != '') + (category != '') DESC, rowid LIMIT 1
"""

Text = Annotated[str, StringConstraints(min_length=1)]


class Recording(BaseModel):
    """One line of a file of recorded answers."""

    model_config = ConfigDict(extra="forbid")

    agent: str
    answer: dict[str, JsonValue] | str
    title: Text | None = None
    brand: Text | None = None
    category: Text | None = None


class Recordings:
    """Recorded answers, in a database of this process alone that spills to disk: memory stays bounded."""

    def __init__(self, path: Path) -> None:
        """Reads a file of JSON lines.

        Raises:
            UserError: the file is not there, or a line is no recording.
        """
        if not path.is_file():
            raise UserError(f"teacher.recordings: {path} not found")
        self._connection = sqlite3.connect("", check_same_thread=False)
        self._connection.execute(_TABLE)
        self._connection.executemany("INSERT INTO recordings VALUES (?,?,?,?,?)", _read(path))
        self._connection.execute("CREATE INDEX by_title ON recordings (agent, title)")

    def find(self, request: Request) -> str | None:
        """The recorded answer to a request; a repair gets the same answer again."""
        given = request.given.model_dump(include={"product", "category"})
        product = given.get("product", given)
        row = self._connection.execute(_FIND, (request.agent, *(product.get(name, "") for name in _FIELDS))).fetchone()
        return row[0] if row else None


def _read(path: Path) -> Iterator[tuple[Any, ...]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                recording = Recording.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "line"
                raise UserError(f"teacher.recordings: {path}, line {number}: {place}: {first['msg']}") from error
            if recording.agent not in AGENT_NAMES:
                known = ", ".join(AGENT_NAMES)
                raise UserError(
                    f"teacher.recordings: {path}, line {number}: agent '{recording.agent}' unknown; known: {known}"
                )
            answer = recording.answer
            text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
            fields = {name: getattr(recording, name) for name in _FIELDS}
            product = read_product({**fields, "description": None}, max_description_chars=0)  # cleaned as products are
            yield recording.agent, product.title, product.brand, product.category, text
