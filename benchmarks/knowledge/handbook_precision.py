"""Does the handbook know what it says? Its answers on hand-labelled titles of many kinds of shops.

`labelled_titles/` holds two halves. Weights, words and the threshold of the matching were chosen on the
tuning half. This benchmark measures on the held-out half, and prints what is wrong there.

Precision is the share of right answers. Coverage is the share of the titles whose concept the handbook holds
that got this concept. A title may have several right labels, and "none" may be one of them.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from benchmarks.shared.results import Row, make_row
from models.knowledge.distillation.product_text import Product
from models.knowledge.handbook.concept_matcher import ConceptMatcher
from models.knowledge.handbook.handbook_files import read_handbook

Half = Literal["tuning", "held_out"]
NONE: Final = "none"
_FOLDER: Final = Path(__file__).parent / "labelled_titles"


class LabelledTitle(NamedTuple):
    """A title and the concepts that are right for it."""

    department: str
    labels: frozenset[str]
    """Concept ids, or `none`."""
    product: Product


class Judgement(NamedTuple):
    """What the handbook said of a title."""

    title: LabelledTitle
    answer: str | None
    """A concept id; none where it does not know."""

    @property
    def is_right(self) -> bool:
        """Whether the answer is one of the labels."""
        return self.answer in self.title.labels


class Tally(NamedTuple):
    """Counts of judgements."""

    answered: int
    right: int
    coverable: int
    """Titles of which the handbook holds the concept."""
    covered: int
    """Of these, those that got it."""

    @property
    def precision(self) -> float:
        """Share of right answers."""
        return self.right / self.answered

    @property
    def coverage(self) -> float:
        """Share of coverable titles that were answered rightly."""
        return self.covered / self.coverable


def read_labelled_titles(half: Half) -> list[LabelledTitle]:
    """The titles of one half."""
    with (_FOLDER / f"{half}.tsv").open(encoding="utf-8", newline="") as file:
        return [
            LabelledTitle(
                row["department"],
                frozenset(row["concept"].split("/")),
                Product(title=row["title"], category=row["category"]),
            )
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


def judge_titles(matcher: ConceptMatcher, titles: Sequence[LabelledTitle]) -> list[Judgement]:
    """Asks the handbook about all titles."""
    matches = [matcher.find_concept(title.product) for title in titles]
    return [
        Judgement(title, match.concept.id if match else None)
        for title, match in zip(titles, matches, strict=True)
    ]


def count_judgements(judgements: Sequence[Judgement]) -> Tally:
    """Counts answers, right ones, and what could have been answered."""
    answered = [one for one in judgements if one.answer is not None]
    coverable = [one for one in judgements if NONE not in one.title.labels]
    return Tally(
        answered=len(answered),
        right=sum(one.is_right for one in answered),
        coverable=len(coverable),
        covered=sum(one.is_right for one in coverable),
    )


def measure_handbook_precision() -> list[Row]:
    """Rows of precision and coverage, of all and by department; prints counts and wrong answers."""
    judgements = judge_titles(ConceptMatcher(read_handbook()), read_labelled_titles("held_out"))
    by_department: dict[str, list[Judgement]] = {"": judgements}
    for judgement in judgements:
        by_department.setdefault(judgement.title.department, []).append(judgement)
    rows = []
    for department, judged in by_department.items():
        tally = count_judgements(judged)
        data = (
            f"{len(judged)} held-out labelled titles{f' of {department}' if department else ''}: "
            f"{tally.right} of {tally.answered} answers right, {tally.covered} of {tally.coverable} covered"
        )
        print(data)
        suffix = f".{department.replace(' ', '_')}" if department else ""
        if tally.answered:
            rows.append(
                make_row(f"knowledge.handbook.precision{suffix}", tally.precision, unit="share", data=data)
            )
        if tally.coverable:
            rows.append(
                make_row(f"knowledge.handbook.coverage{suffix}", tally.coverage, unit="share", data=data)
            )
    for judgement in judgements:
        if judgement.answer is not None and not judgement.is_right:
            title = judgement.title
            print(
                f"wrong: {judgement.answer}, not {'/'.join(sorted(title.labels))}: {title.product.title!r} "
                f"in {title.product.category!r}"
            )
    return rows
