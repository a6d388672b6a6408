"""What a model wrote about the items of a catalogue, as JSON lines: one line an item, in the fewest words.

    {"item_id": "7", "kind": "narrow crown staples", "demands": ["refill an empty staple gun"],
     "audiences": ["roofer"], "scenarios": ["insulating an attic"], "features": ["1/2 inch leg"],
     "complements": ["staple gun"], "substitutes": ["brad nails"], "lifecycle": "consumable"}

Only `item_id` is needed. A `kind` of `unknown`, or none, says that the model did not know the item. A claim
has 1 to 160 characters, a list at most 8 claims; `lifecycle` is one claim or a list. A line may also have:

- `version`: of this format; 1 where it is not given.
- `title`: of the product that was read; a line with another title than the catalogue's is left out.
- `confidence`: the share of such items for which the claims hold; .7 where it is not given.

The file may be compressed by gzip. What is wrong with a line costs that line alone, and is counted and told.
A file without one line that fits the catalogue is refused.
"""

import gzip
import json
import re
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from contracts.digests import digest_value
from contracts.errors import UserError
from contracts.ingestion.values.missing_words import MISSING_WORDS
from models.knowledge.distillation.product_text import Product, escape_control_chars, fold_words, read_product
from models.knowledge.knowledge_schema import MAX_CLAIMS, ShortText

FORMAT_VERSION: Final = 1
UNKNOWN_KIND: Final = "unknown"
_WHOLE_NUMBER: Final = re.compile(r"(\d+)\.0+")
_MAX_EXAMPLE_CHARS: Final = 200
RECORDED_EVIDENCE: Final = "recorded, without a reason"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_TABLES: Final = """
CREATE TABLE answers (item_id TEXT PRIMARY KEY, kind TEXT, line TEXT, is_joined INT DEFAULT 0);
CREATE TABLE products (digest TEXT PRIMARY KEY, item_id TEXT, category TEXT);
"""
_MIN_SHARE_ALIKE: Final = 0.1
"""Of items whose answer has a word in common with the product: with fewer the ids are doubtful."""
_MIN_COMPARED: Final = 50
_NUM_KINDS: Final = 5

TextList = Annotated[tuple[ShortText, ...], Field(max_length=MAX_CLAIMS)]


class ItemKnowledge(BaseModel):
    """One line: what is said of one item."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    item_id: Annotated[str, Field(min_length=1)]
    version: Literal[1] = 1
    kind: ShortText | None = None
    title: str | None = None
    demands: TextList = ()
    audiences: TextList = ()
    scenarios: TextList = ()
    features: TextList = ()
    complements: TextList = ()
    substitutes: TextList = ()
    lifecycle: TextList = ()
    confidence: float = Field(default=0.7, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, fields: object) -> object:
        """Takes a null, an empty kind or title for what is not given."""
        if not isinstance(fields, dict):
            return fields
        given_fields = {name: value for name, value in fields.items() if value is not None}
        for name in ("kind", "title"):
            if isinstance(given_fields.get(name), str) and not given_fields[name].strip():
                del given_fields[name]
        if given_fields.get("version") == str(FORMAT_VERSION):
            given_fields["version"] = FORMAT_VERSION
        return given_fields

    @field_validator("item_id")
    @classmethod
    def _clean_item_id(cls, item_id: str) -> str:
        return _clean_id(item_id)

    @field_validator("lifecycle", mode="before")
    @classmethod
    def _accept_one_claim(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @property
    def is_known(self) -> bool:
        """Says whether the model knew the item."""
        kind = (self.kind or "").casefold()
        return bool(kind) and {kind, kind.rstrip(" .")}.isdisjoint({UNKNOWN_KIND, *MISSING_WORDS})


class JoinReport(NamedTuple):
    """What became of the lines and of the items."""

    counts: dict[str, int]
    """`lines`; `joined`: items with an answer; the others by what is wrong with them."""
    examples: dict[str, str]
    """The first of each kind that is wrong, in words."""

    def describe(self, path: Path) -> Iterator[str]:
        """Lines for the screen."""
        counts = self.counts
        num_joined = counts["joined"]
        yield f"{path.name}: {counts['lines']} recorded answers, {num_joined} about items of the catalogue"
        for name, words in _FAULT_WORDS.items():
            if counts.get(name):
                example = f", the first {self.examples[name]}" if self.examples.get(name) else ""
                yield f"  {counts[name]} {words}{example}"


_FAULT_WORDS: Final = {
    "broken": "lines are broken and left out",
    "other_version": f"lines are of another version than {FORMAT_VERSION} and left out",
    "repeated": "lines repeat an item; its first line counts",
    "not_in_catalogue": "lines name an item that the catalogue does not have",
    "other_title": "lines have another title than the catalogue and are left out",
    "unknown": "lines say that the item is not known",
    "items_without_line": "items have no recorded answer: they count as invalid",
    "items_same_text": "items have the text of another item, whose answer counts for both",
    "items_unlike": "items have no word in common with their answer: are the ids those of this catalogue?",
}


class KnowledgeLines:
    """Recorded knowledge, in a database of this process alone that spills to disk: memory stays bounded."""

    evidence = RECORDED_EVIDENCE

    def __init__(self, path: Path) -> None:
        """Reads a file.

        Raises:
            UserError: it is damaged, or holds no line of this form.
        """
        self._path = path
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._connection = sqlite3.connect("", check_same_thread=False)
        self._connection.executescript(_TABLES)
        for line_number, line in read_file_lines(path):
            self._counts["lines"] += 1
            self._add_line(line_number, line)
        if not self._connection.execute("SELECT count(*) FROM answers").fetchone()[0]:
            faults = "; ".join(self._examples.values()) or "it is empty"
            raise UserError(f"teacher.recordings: {path} holds no recorded knowledge: {faults}")

    def _add_line(self, line_number: int, line: bytes) -> None:
        try:
            knowledge = ItemKnowledge.model_validate_json(line)
        except ValidationError as error:
            if (version := _read_version(line)) not in (None, FORMAT_VERSION):
                self._note_fault("other_version", f"line {line_number}: version {version}")
                return
            detail = error.errors()[0]
            field_name = ".".join(map(str, detail["loc"])) or "line"
            self._note_fault("broken", f"line {line_number}: {field_name}: {detail['msg']}")
            return
        kind = knowledge.kind if knowledge.kind and knowledge.is_known else UNKNOWN_KIND
        row = (knowledge.item_id, kind, knowledge.model_dump_json())
        if not self._connection.execute("INSERT OR IGNORE INTO answers VALUES (?,?,?,0)", row).rowcount:
            self._note_fault("repeated", f"line {line_number}: item {knowledge.item_id}")

    def _note_fault(self, name: str, example: str) -> None:
        self._counts[name] += 1
        self._examples.setdefault(name, escape_control_chars(example[:_MAX_EXAMPLE_CHARS]))

    def join_catalogue(self, items: Iterable[tuple[str, Product]]) -> JoinReport:
        """Finds each item's answer by its id. From here on products are known by their text.

        Raises:
            UserError: no line is about an item of the catalogue.
        """
        num_alike = 0
        for catalogue_id, product in items:
            item_id = _clean_id(catalogue_id)
            if (knowledge := self._find_line(item_id)) is None:
                self._note_fault("items_without_line", f"item {item_id}")
                continue
            if knowledge.title is not None and not _is_same_title(knowledge.title, product.title):
                self._note_fault("other_title", f"item {item_id}: '{knowledge.title}' for '{product.title}'")
                self._note_fault("items_without_line", f"item {item_id}")
                self._connection.execute("UPDATE answers SET is_joined = 1 WHERE item_id = ?", (item_id,))
                continue
            self._counts["joined"] += 1
            self._connection.execute("UPDATE answers SET is_joined = 1 WHERE item_id = ?", (item_id,))
            if not knowledge.is_known:
                self._note_fault("unknown", f"item {item_id}")
            elif _has_word_in_common(knowledge, product):
                num_alike += 1
            row = (product.digest, item_id, product.category)
            if not self._connection.execute("INSERT OR IGNORE INTO products VALUES (?,?,?)", row).rowcount:
                self._note_fault("items_same_text", f"item {item_id}")
        left_over = "SELECT item_id FROM answers WHERE NOT is_joined ORDER BY rowid"
        for (item_id,) in self._connection.execute(left_over).fetchall():
            self._note_fault("not_in_catalogue", f"item {item_id}")
        if not self._counts["joined"]:
            example = self._examples.get("other_title") or self._examples.get("not_in_catalogue", "")
            raise UserError(
                f"teacher.recordings: none of the {self._counts['lines']} lines of {self._path} is about an "
                f"item of this catalogue ({example}): are the ids those of another one?"
            )
        num_known = self._counts["joined"] - self._counts["unknown"]
        if num_known >= _MIN_COMPARED and num_alike < _MIN_SHARE_ALIKE * num_known:
            self._counts["items_unlike"] = num_known - num_alike
        return JoinReport(dict(self._counts), self._examples)

    def digest_join(self) -> str:
        """Digest (16 hex digits) of which answer belongs to which product."""
        rows = self._connection.execute("SELECT digest, item_id FROM products ORDER BY digest")
        return digest_value([list(row) for row in rows])

    def find_product_knowledge(self, product: Product) -> ItemKnowledge | None:
        """What is said of a product of the joined catalogue."""
        row = self._connection.execute(
            "SELECT item_id FROM products WHERE digest = ?", (product.digest,)
        ).fetchone()
        return self._find_line(row[0]) if row else None

    def list_category_kinds(self, category: str) -> list[str]:
        """The kinds that the answers name most often in a category."""
        query = (
            "SELECT kind FROM products JOIN answers USING (item_id) WHERE category = ? AND kind != ? "
            "GROUP BY kind ORDER BY count(*) DESC, min(answers.rowid) LIMIT ?"
        )
        rows = self._connection.execute(query, (category, UNKNOWN_KIND, _NUM_KINDS))
        return [kind for (kind,) in rows]

    def _find_line(self, item_id: str) -> ItemKnowledge | None:
        row = self._connection.execute("SELECT line FROM answers WHERE item_id = ?", (item_id,)).fetchone()
        return ItemKnowledge.model_validate_json(row[0]) if row else None


def read_file_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines of a text file that may be compressed by gzip, with their numbers; without empty ones and a BOM.

    Raises:
        UserError: the file is not there or damaged.
    """
    if not path.is_file():
        raise UserError(f"teacher.recordings: {path} not found")
    with path.open("rb") as raw_file:
        is_gzip = raw_file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    try:
        with gzip.open(path) if is_gzip else path.open("rb") as lines:
            for line_number, line in enumerate(lines, start=1):
                text = line.removeprefix(b"\xef\xbb\xbf") if line_number == 1 else line
                if text.strip():
                    yield line_number, text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"teacher.recordings: {path} is damaged ({error}); copy it again") from error


def _read_version(line: bytes) -> object:
    """The version that a line names; none where it names none, or is no object."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return fields.get("version") if isinstance(fields, dict) else None


def _clean_id(item_id: str) -> str:
    """An id that went through a table of numbers may have become 17841.0."""
    item_id = item_id.strip()
    number = _WHOLE_NUMBER.fullmatch(item_id)
    return number[1] if number else item_id


def _is_same_title(title: str, catalogue_title: str) -> bool:
    """Whether titles differ in letters' case and spaces at most: models copy them by hand."""
    cleaned_product = read_product({"title": title, "brand": None, "category": None, "description": None})
    return fold_words(cleaned_product.title) == fold_words(catalogue_title)


def _has_word_in_common(knowledge: ItemKnowledge, product: Product) -> bool:
    words = fold_words(" ".join((knowledge.kind or "", *knowledge.features))).split()
    product_words = set(fold_words(product.text).split())
    return any(word in product_words for word in words)
