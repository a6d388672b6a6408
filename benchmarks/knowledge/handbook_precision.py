"""Does the handbook know what it says? Its answers on hand-labelled titles of many kinds of shops.

`labelled_titles/` holds several parts. Weights, words and the threshold of the matching were chosen on
`tuning`, and later mended on `before_closed_departments`. This benchmark measures on the parts that nobody
mended anything on, and prints what is wrong there. The mended part has figures of its own.

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

Part = Literal["tuning", "held_out", "before_closed_departments", "after_closed_departments"]
_MEASURED_PARTS: Final[tuple[Part, ...]] = ("held_out", "after_closed_departments")
"""Nothing of the handbook was chosen on them."""
_MENDED_PART: Final[Part] = "before_closed_departments"
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


def read_labelled_titles(part: Part) -> list[LabelledTitle]:
    """The titles of one part."""
    with (_FOLDER / f"{part}.tsv").open(encoding="utf-8", newline="") as file:
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
    matcher = ConceptMatcher(read_handbook())
    judgements = [
        one for part in _MEASURED_PARTS for one in judge_titles(matcher, read_labelled_titles(part))
    ]
    by_department: dict[str, list[Judgement]] = {"": judgements}
    for judgement in judgements:
        by_department.setdefault(judgement.title.department, []).append(judgement)
    by_department[_MENDED_PART] = judge_titles(matcher, read_labelled_titles(_MENDED_PART))
    rows = []
    for department, judged in by_department.items():
        tally = count_judgements(judged)
        data = (
            f"{len(judged)} {'mended' if department == _MENDED_PART else 'held-out'} labelled titles"
            f"{f' of {department}' if department else ''}: "
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
