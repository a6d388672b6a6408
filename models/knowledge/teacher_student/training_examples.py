"""What the student learns from: a question about each item, and the answer that the teacher's record gives.

The question is the very one that a teacher of the form `compact` is asked later, in the chat template of the
base model. Claims that the critic dropped do not stand in the record, so they are not learned. Items with the
same text stay on one side of the split.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from contracts.errors import UserError
from models.knowledge.agents.prompt_files import read_prompt_file
from models.knowledge.config import StudentConfig
from models.knowledge.distillation.finished_records import scan_knowledge
from models.knowledge.distillation.item_batches import CatalogueReader
from models.knowledge.distillation.product_text import Product, read_product
from models.knowledge.knowledge_schema import record_from_row
from models.knowledge.teachers.chat_messages import make_chat_prompt
from models.knowledge.teachers.compact.compact_answer import ITEM_WRITER, CompactAnswer, make_item_request
from models.knowledge.teachers.compact.retrieved_examples import AnsweredItem, ExampleStore
from models.knowledge.teachers.transformers_teacher import render_chat

_HASH_RANGE: Final = 16**8


class Lesson(NamedTuple):
    """An item and what the teacher said of it."""

    item_id: str
    product: Product
    answer: CompactAnswer


class Example(NamedTuple):
    """A lesson in tokens."""

    question: list[int]
    answer: list[int]
    """It ends with the token that ends an answer. The loss counts these tokens alone."""

    @property
    def num_tokens(self) -> int:
        """Of both together."""
        return len(self.question) + len(self.answer)


class Lessons(NamedTuple):
    """All lessons, split by the items' texts."""

    training: list[Lesson]
    held_out: list[Lesson]


def read_lessons(dataset: Path, knowledge: Path, config: StudentConfig) -> Lessons:
    """Reads a catalogue and what a teacher knows of it. Items without a valid answer are left out.

    Raises:
        UserError: the folder is no knowledge artifact, or there are too few items to learn from and to hold
            out.
    """
    lessons: dict[str, Lesson] = {}
    for lesson in _join_records(dataset, knowledge, config.max_claims):
        lessons.setdefault(lesson.product.digest, lesson)
    # By digest: which items are taken does not depend on their order, nor on further items.
    chosen = sorted(lessons)[: config.max_items]
    is_held_out = [int(digest[-8:], 16) < config.held_out_share * _HASH_RANGE for digest in chosen]
    split = Lessons(
        [lessons[digest] for digest, held_out in zip(chosen, is_held_out, strict=True) if not held_out],
        [lessons[digest] for digest, held_out in zip(chosen, is_held_out, strict=True) if held_out],
    )
    if not (split.training and split.held_out):
        raise UserError(
            f"student_lm: {len(chosen)} items with knowledge are too few to learn from and to hold out "
            f"{config.held_out_share:.0%} of them. Raise student_lm.max_items or student_lm.held_out_share, "
            "or distill knowledge on more items."
        )
    return split


def _join_records(dataset: Path, knowledge: Path, max_claims: int) -> Iterator[Lesson]:
    known_rows = scan_knowledge(knowledge).filter(pl.col("status") != "invalid")
    for frame in CatalogueReader(dataset).read_item_batches():
        products = {row["item_id"]: read_product(row) for row in frame.iter_rows(named=True)}
        rows = known_rows.filter(pl.col("item_id").is_in(list(products))).collect()
        for row in rows.iter_rows(named=True):
            product = products[row["item_id"]]
            # A record of another text says nothing of this one.
            if row["source_digest"] == product.digest:
                record = record_from_row(row) if row["status"] == "ok" else None
                yield Lesson(row["item_id"], product, CompactAnswer.of_record(record, max_claims))


def store_examples(lessons: Sequence[Lesson]) -> ExampleStore:
    """Lessons as what later questions are shown."""
    return ExampleStore([AnsweredItem(product=lesson.product, answer=lesson.answer) for lesson in lessons])


def tokenize_lessons(
    lessons: Sequence[Lesson], tokenizer: Any, shown_examples: ExampleStore | None
) -> list[Example]:
    """Puts lessons into the chat template of a model, as questions are asked later."""
    version = read_prompt_file(ITEM_WRITER).version
    products = [lesson.product for lesson in lessons]
    shown = shown_examples.find_examples(products) if shown_examples else [None] * len(lessons)
    examples = []
    for lesson, example in zip(lessons, shown, strict=True):
        request = make_item_request(lesson.product, prompt_version=version, example=example)
        chat = make_chat_prompt(request)
        question_text = render_chat(tokenizer, chat.messages, model="student_lm.base_model")
        question = tokenizer(question_text, add_special_tokens=False)["input_ids"]
        # A claim may spell a token that ends an answer; it is learned as the letters that it is.
        answer = tokenizer(
            lesson.answer.model_dump_json(), add_special_tokens=False, split_special_tokens=True
        )["input_ids"]
        examples.append(Example(question, [*answer, tokenizer.eos_token_id]))
    return examples


def plan_batches(
    examples: Sequence[Example], batch_size: int, generator: np.random.Generator
) -> list[np.ndarray[Any, Any]]:
    """Batches of examples of similar length, in random order: little is padded."""
    order = generator.permutation(len(examples))
    window = 16 * batch_size
    batches: list[np.ndarray[Any, Any]] = []
    for start in range(0, len(order), window):
        rows = sorted(order[start : start + window], key=lambda row: examples[row].num_tokens)
        batches += [np.array(rows[first : first + batch_size]) for first in range(0, len(rows), batch_size)]
    return [batches[place] for place in generator.permutation(len(batches))]
