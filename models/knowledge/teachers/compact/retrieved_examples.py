"""Examples for questions: of all items whose answer is known, the one whose words are most like a product's.

A small model that sees how a similar product was described copies what also holds and mends the rest, which
it learns far sooner than to know all by itself (Liu et al. 2022, "What Makes Good In-Context Examples for
GPT-3?"). Likeness is the cosine of tf-idf vectors of title and category: on product titles it finds as good
examples as a text encoder does, and needs none.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import polars as pl
from pydantic import ValidationError

from contracts.digests import digest_value
from contracts.errors import UserError
from models.knowledge.distillation.product_text import Product
from models.knowledge.knowledge_schema import StrictModel
from models.knowledge.teachers.compact.compact_answer import AnsweredProduct, CompactAnswer, CompactProduct
from models.knowledge.writing_systems import split_words

EXAMPLES_FILE: Final = "answered_items.jsonl"
"""In a student's folder."""
EXAMPLES_KEY: Final = "answers_beside_examples"
"""In the configuration of a student that learned so. Without examples half of its answers are not valid."""
_MAX_POSTINGS: Final = 2_000
_MAX_SHARE: Final = 0.2
"""Words of more answered items than both allow tell little and cost much."""
_PRODUCTS_AT_ONCE: Final = 256
"""Bounds the memory."""


class AnsweredItem(StrictModel):
    """A product with a known answer."""

    product: Product
    answer: CompactAnswer


class ExampleStore:
    """Answered items, found by the words of a product."""

    def __init__(self, items: Sequence[AnsweredItem]) -> None:
        """Indexes the items; at least one."""
        self._items = items
        self.digest = digest_value([item.model_dump() for item in items])
        self._digests = pl.Series([item.product.digest for item in items])
        num_items = pl.col("place").n_unique().over("word")
        words = _list_words([item.product for item in items]).with_columns(num_items=num_items)
        telling_words = words.filter(pl.col("num_items") <= max(_MAX_POSTINGS, _MAX_SHARE * len(items)))
        weight = ((1 + len(items)) / (1 + pl.col("num_items"))).log() + 1
        length = weight.pow(2).sum().over("place").sqrt()
        # A word weighs the same in the product that is asked about: both weights stand in one number.
        self._postings = telling_words.select("place", "word", score=weight.pow(2) / length)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads answered items.

        Raises:
            UserError: there is no such file, it is empty, or a line is no answered item.
        """
        items: list[AnsweredItem] = []
        try:
            with path.open(encoding="utf-8") as stream:
                for line in stream:
                    items.append(AnsweredItem.model_validate_json(line))  # noqa: PERF401 - errors count lines
        except FileNotFoundError as error:
            raise UserError(f"teacher.examples: there is no file '{path}'") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"teacher.examples: '{path}' cannot be read: {error}") from error
        except ValidationError as error:
            raise UserError(
                f"teacher.examples: line {len(items) + 1} of '{path}' is no answered item: "
                f"{error.errors()[0]['msg']}. Give the {EXAMPLES_FILE} that distill_teacher wrote"
            ) from error
        if not items:
            raise UserError(f"teacher.examples: '{path}' has no lines")
        return cls(items)

    def write(self, folder: Path) -> None:
        """Writes all items into a student's folder."""
        with (folder / EXAMPLES_FILE).open("w", encoding="utf-8") as stream:
            for item in self._items:
                stream.write(item.model_dump_json() + "\n")

    def find_examples(self, products: Sequence[Product]) -> list[AnsweredProduct | None]:
        """The answered item most like each product, but never that product; none without a common word."""
        examples: list[AnsweredProduct | None] = []
        for start in range(0, len(products), _PRODUCTS_AT_ONCE):
            batch = products[start : start + _PRODUCTS_AT_ONCE]
            places = self._find_places(batch)
            examples += [self._show(places.get(number)) for number in range(len(batch))]
        return examples

    def _find_places(self, products: Sequence[Product]) -> dict[int, int]:
        """Number of a product -> place of its example."""
        asked = pl.DataFrame({"digest": [product.digest for product in products]}).with_row_index("asked")
        known = pl.DataFrame({"digest": self._digests}).with_row_index("place")
        itself = asked.join(known, on="digest")
        best = (
            _list_words(products)
            .rename({"place": "asked"})
            .join(self._postings, on="word")
            .group_by("asked", "place")
            # A sum in any order would round, and so choose, differently from run to run.
            .agg(pl.col("score").sort().sum())
            .join(itself, on=["asked", "place"], how="anti")
            .sort(-pl.col("score"), "place")
            .unique("asked", keep="first", maintain_order=True)
        )
        return dict(best.select("asked", "place").iter_rows())

    def _show(self, place: int | None) -> AnsweredProduct | None:
        if place is None:
            return None
        item = self._items[place]
        return AnsweredProduct(product=CompactProduct.of_product(item.product), answer=item.answer)


def find_example_store(model: str, path: Path | None) -> ExampleStore | None:
    """The examples at a path, else those in the model's folder; none where it has none.

    Raises:
        UserError: they are not there, or cannot be read.
    """
    inside = Path(model) / EXAMPLES_FILE
    if path is not None or inside.is_file():
        return ExampleStore.read(path or inside)
    if _needs_examples(Path(model)):
        raise UserError(
            f"teacher.model: '{model}' learned to answer beside an example, and its {EXAMPLES_FILE} is "
            "missing; copy it from where distill_teacher wrote it, or give teacher.examples"
        )
    return None


def _needs_examples(model_folder: Path) -> bool:
    """Whether a student says so in its configuration, which is copied wherever its weights are."""
    try:
        model_config = json.loads((model_folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False  # a hub name, or a folder that who loads it will complain about
    return isinstance(model_config, dict) and model_config.get(EXAMPLES_KEY) is True


def _list_words(products: Sequence[Product]) -> pl.DataFrame:
    """Each word of title and category once per product: columns `place`, `word`."""
    words = [sorted(set(split_words(f"{product.title} {product.category}"))) for product in products]
    column = pl.Series("word", words, pl.List(pl.String))
    return column.to_frame().with_row_index("place").explode("word").drop_nulls()
