"""The handbook's "don't know": traps, other scripts, and the labelled titles of many kinds of shops."""

from typing import get_args

import pytest

from benchmarks.knowledge.handbook_precision import Part, count_judgements, judge_titles, read_labelled_titles
from models.knowledge.distillation.product_text import Product
from models.knowledge.handbook.concept_matcher import MIN_CONFIDENCE, ConceptMatcher, calibrate_score
from models.knowledge.handbook.handbook_files import read_handbook


@pytest.fixture(scope="module")
def matcher() -> ConceptMatcher:
    return ConceptMatcher(read_handbook())


def find(matcher: ConceptMatcher, title: str, category: str = "", brand: str = "") -> str | None:
    match = matcher.find_concept(Product(title=title, category=category, brand=brand))
    return match.concept.id if match else None


@pytest.mark.parametrize(
    ("part", "min_coverage"),
    [
        ("tuning", 0.6),
        ("held_out", 0.6),
        ("before_closed_departments", 0.5),
        ("after_closed_departments", 0.5),
    ],
)
def test_nine_of_ten_answers_are_right(matcher: ConceptMatcher, part: Part, min_coverage: float) -> None:
    tally = count_judgements(judge_titles(matcher, read_labelled_titles(part)))
    assert tally.precision >= 0.9
    assert tally.coverage >= min_coverage


def test_most_labelled_titles_are_of_unknown_things() -> None:
    titles = [title for part in get_args(Part) for title in read_labelled_titles(part)]
    concept_ids = {concept.id for concept in read_handbook().concepts} | {"none"}
    assert len(titles) >= 400
    assert len({title.product.title for title in titles}) == len(titles)
    assert sum("none" in title.labels for title in titles) >= 0.45 * len(titles)
    assert not {label for title in titles for label in title.labels} - concept_ids


@pytest.mark.parametrize(
    "title",
    [
        "Brass Letter B Key Ring",
        "Childs Apron Pirates",
        "Magnetic Gel Nail Polish 12 ml",
        "Figaro Chain Necklace 20 Inch",
        "Mouse",
        "Spring",
        "Cutting Board Oil",
        "Dog Bed Ramp",
        "Gift Box in the Shape of a Stethoscope",
        "Sticker Set for Laptops",
    ],
)
def test_words_in_another_sense_are_no_concept(matcher: ConceptMatcher, title: str) -> None:
    assert find(matcher, title) is None


@pytest.mark.parametrize(
    "title",
    [
        "手机壳 USB-C 充电线",
        "สายชาร์จ USB Cable",
        "كابل USB-C",
        "USB кабель",
        "무선 Keyboard",
        "充電器",
        "é́",
        "🙂",
        "()",
    ],
)
@pytest.mark.parametrize("category", ["", "电子产品 > 配件"])
def test_titles_in_other_scripts_are_unknown(matcher: ConceptMatcher, title: str, category: str) -> None:
    assert find(matcher, title, category) is None


def test_a_greek_unit_is_no_other_script(matcher: ConceptMatcher) -> None:
    assert find(matcher, "Metal Film Resistor 10 kΩ, 100 Pieces") == "resistor"


def test_the_category_tells_the_sense_of_a_word(matcher: ConceptMatcher) -> None:
    assert find(matcher, "Dome Tent", "Outdoors > Camping") == "tent"
    assert find(matcher, "Dome Tent") is None
    assert find(matcher, "Dome Tent", "Toys > Pretend Play") is None


def test_a_closed_department_has_no_strangers(matcher: ConceptMatcher) -> None:
    assert find(matcher, "Timing Belt Kit 120 Teeth", "Auto Parts") is None
    assert find(matcher, "GT2 Timing Belt 6 mm", "3D Printing") == "printer-motion"
    assert find(matcher, "Wire Rope 3 mm", "Baby") is None
    assert find(matcher, "Wire Rope 3 mm") == "rope-chain"


def test_an_aisle_alone_decides_nothing(matcher: ConceptMatcher) -> None:
    assert find(matcher, "Wooden Craft Sticks 200", "Crafts") is None
    assert find(matcher, "Merino Wool Yarn", "Crafts") == "knitting"


def test_a_noun_within_a_term_names_something_else(matcher: ConceptMatcher) -> None:
    assert find(matcher, "Roller Blind Chain White") is None
    assert find(matcher, "PLA Silk Filament 1.75 mm", "3D Printing") == "filament-pla"


@pytest.mark.parametrize("title", ["Returned Dumbbell Set", "Damaged Laptop Sleeve", "Refund Wireless Mouse"])
def test_what_is_no_goods_is_unknown(matcher: ConceptMatcher, title: str) -> None:
    assert find(matcher, title) is None


def test_the_head_noun_says_what_a_thing_is(matcher: ConceptMatcher) -> None:
    assert find(matcher, "Baby Stroller, Foldable") == "stroller"
    assert find(matcher, "Baby Stroller Hook") is None
    assert find(matcher, "Mug with Baby Stroller") is None
    assert find(matcher, "Set of 6 Wine Glasses") == "tableware"


def test_a_thing_for_another_is_named_by_both(matcher: ConceptMatcher) -> None:
    assert (
        find(matcher, "Case for iPad Mini", "Cases")
        == find(matcher, "iPad Mini Case", "Cases")
        == "tablet-case"
    )


def test_a_brand_is_no_word_of_the_title(matcher: ConceptMatcher) -> None:
    assert find(matcher, "Necklace Bluetooth Speaker", brand="Necklace") == "bluetooth-speaker"
    assert find(matcher, "Necklace Bluetooth Speaker") is None


def test_a_higher_score_is_never_less_sure() -> None:
    shares = [calibrate_score(step / 20) for step in range(-10, 60)]
    assert shares == sorted(shares)
    assert shares[0] < 0.1 < MIN_CONFIDENCE <= 0.99 == shares[-1]
