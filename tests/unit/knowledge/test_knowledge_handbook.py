"""The handbook: coverage, matching, and what it answers."""

import os
from pathlib import Path

import polars as pl
import pytest
import yaml

from contracts.errors import UserError
from models.knowledge.config import HandbookTeacherConfig
from models.knowledge.handbook.reader import read_handbook
from models.knowledge.handbook.matcher import ConceptMatcher
from models.knowledge.products import Product

REPOSITORY = Path(__file__).parents[3]
BENCH_DATA = Path(os.environ.get("REASEQ_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
MIN_CONFIDENCE = HandbookTeacherConfig().min_confidence


@pytest.fixture(scope="module")
def matcher() -> ConceptMatcher:
    return ConceptMatcher(read_handbook().concepts)


def find(matcher: ConceptMatcher, title: str, category: str = "", description: str = "") -> str | None:
    match = matcher.match(Product(title=title, category=category, description=description))
    return match.concept.id if match and match.confidence >= MIN_CONFIDENCE else None


def test_every_concept_is_whole() -> None:
    for concept in read_handbook().concepts:
        assert len(concept.demands) >= 2, concept.id
        assert len(concept.audiences) >= 2, concept.id
        assert len(concept.scenarios) >= 2, concept.id
        assert len(concept.attributes) >= 2, concept.id
        assert len(concept.complements) >= 2, concept.id
        assert concept.substitutes, concept.id
        assert concept.lifecycle, concept.id


def test_every_type_of_the_embedded_shop_is_covered(matcher: ConceptMatcher) -> None:
    catalogue = yaml.safe_load((REPOSITORY / "simulation" / "catalogue.yaml").read_text(encoding="utf-8"))
    kinds = [kind for department in catalogue["departments"] for kind in department["types"]]
    missing = [
        f"{kind['category']}: {name}"
        for kind in kinds
        for name in kind["names"]
        if not find(matcher, name, kind["category"])
    ]
    assert not missing
    own_concept = {kind["category"]: find(matcher, kind["names"][0], kind["category"]) for kind in kinds}
    assert len(set(own_concept.values())) == len(own_concept)


def test_frequent_categories_of_electronics_are_covered(matcher: ConceptMatcher) -> None:
    path = BENCH_DATA / "electronics" / "items.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set REASEQ_BENCH_DATA")
    items = pl.read_parquet(path, columns=["title", "category"])
    frequent = items["category"].value_counts(sort=True).head(60)["category"]
    sample = items.filter(pl.col("category").is_in(frequent.implode())).sample(400, seed=0)
    known = [find(matcher, title, category) is not None for title, category in sample.iter_rows()]
    assert sum(known) / len(known) >= 0.97


@pytest.mark.parametrize(
    ("title", "category", "concept"),
    [
        ("JETech Case for iPad Mini 5", "Cases", "tablet-case"),
        ("Silicone Case Compatible with AirPods Pro", "Cases", "earbud-case"),
        ("Screen Protector for iPad 9", "", "screen-protector"),
        ("Travel Laptop Backpack for Men", "Computers", "laptop-bag"),
        ("Qwxzt", "", None),
        ("", "", None),
        ("Kühltasche 日本語 🙂", "Unbekannt > Sonstiges", None),
    ],
)
def test_match(matcher: ConceptMatcher, title: str, category: str, concept: str | None) -> None:
    assert find(matcher, title, category) == concept


def test_confidence_grows_with_the_witnesses(matcher: ConceptMatcher) -> None:
    products = [
        Product(title="Plenko 3000", category="Electronics > USB Cables"),
        Product(title="Plenko USB Cable"),
        Product(title="Plenko USB Cable", category="Electronics > USB Cables"),
    ]
    category, text, both = (match.confidence for product in products if (match := matcher.match(product)))
    assert both > category > text >= MIN_CONFIDENCE


def test_all_faults_of_a_handbook_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        read_handbook(tmp_path / "none")
    with pytest.raises(UserError, match="no concepts"):
        read_handbook(tmp_path)
    (tmp_path / "a.yaml").write_text("concepts:\n  - {id: x, name: y}\n  - {id: z, surprise: 1}\n")
    (tmp_path / "b.yaml").write_text("concepts: [")
    (tmp_path / "c.yaml").write_text("notes: []")
    with pytest.raises(UserError) as error:
        read_handbook(tmp_path)
    for word in ("x:", "z:", "b.yaml", "c.yaml"):
        assert word in str(error.value)
