"""The handbook: coverage, matching, and what it answers."""

import os
from collections import Counter, defaultdict
from pathlib import Path

import polars as pl
import pytest
import yaml

from contracts.errors import UserError
from contracts.tables import FACETS
from models.knowledge.distillation.product_text import Product, fold_words
from models.knowledge.handbook.claim_writer import ClaimWriter
from models.knowledge.handbook.concept_matcher import MIN_CONFIDENCE, ConceptMatch, ConceptMatcher
from models.knowledge.handbook.handbook_files import Handbook, read_handbook
from models.knowledge.knowledge_schema import MAX_CLAIMS
from tests.unit.simulation.test_kept_apart import HELD_OUT_TYPES

REPOSITORY = Path(__file__).parents[3]
BENCH_DATA = Path(os.environ.get("REASEQ_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
HANDBOOK = REPOSITORY / "models" / "knowledge" / "handbook"


@pytest.fixture(scope="module")
def handbook() -> Handbook:
    return read_handbook()


@pytest.fixture(scope="module")
def matcher(handbook: Handbook) -> ConceptMatcher:
    return ConceptMatcher(handbook)


def read_items(name: str, columns: list[str]) -> pl.DataFrame:
    path = BENCH_DATA / name / "items.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set REASEQ_BENCH_DATA")
    return pl.read_parquet(path, columns=columns)


def find(matcher: ConceptMatcher, title: str, category: str = "", description: str = "") -> str | None:
    match = matcher.find_concept(Product(title=title, category=category, description=description))
    return match.concept.id if match else None


def test_every_concept_is_whole(handbook: Handbook) -> None:
    in_situations = {concept_id for situation in handbook.situations for concept_id in situation.concepts}
    for concept in handbook.concepts:
        assert len(concept.demands) >= 2, concept.id
        assert len(concept.audiences) >= 2, concept.id
        assert len(concept.scenarios) >= 2, concept.id
        assert len(concept.attributes) >= 2, concept.id
        assert len(concept.complements) >= 2, concept.id
        assert concept.substitutes, concept.id
        assert concept.lifecycle, concept.id
        assert concept.goes_with, concept.id
        assert concept.id in in_situations, concept.id
        for facet in FACETS:
            texts = [hint.text for hint in getattr(concept, facet)]
            assert len(texts) <= MAX_CLAIMS, (concept.id, facet)
            assert len(set(texts)) == len(texts), (concept.id, facet)


def test_siblings_do_not_share_their_sentences(handbook: Handbook) -> None:
    """What tells concepts apart is the demands and the audiences; situations are what they share."""
    for facet in ("demands", "summary"):
        owners: defaultdict[str, list[str]] = defaultdict(list)
        for concept in handbook.concepts:
            texts = [concept.summary] if facet == "summary" else [hint.text for hint in concept.demands]
            for text in texts:
                owners[text].append(concept.id)
        shared = {text: ids for text, ids in owners.items() if len(ids) > 1}
        assert not shared


def test_situations_join_concepts_across_files(handbook: Handbook) -> None:
    assert len(handbook.situations) >= 60
    assert len({situation.demand for situation in handbook.situations}) == len(handbook.situations)
    assert len({situation.scenario for situation in handbook.situations}) == len(handbook.situations)
    place = {
        entry["id"]: path.name
        for path in HANDBOOK.glob("*.yaml")
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")).get("concepts", [])
    }
    across = [
        len({place[concept] for concept in situation.concepts}) > 1 for situation in handbook.situations
    ]
    assert sum(across) >= 0.95 * len(across)


def test_every_handbook_file_has_a_version() -> None:
    for path in HANDBOOK.glob("*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8"))["version"], int), path.name


def test_every_type_of_the_embedded_shop_is_covered_but_those_held_out(matcher: ConceptMatcher) -> None:
    catalogue = yaml.safe_load((REPOSITORY / "simulation" / "catalogue.yaml").read_text(encoding="utf-8"))
    kinds = [
        kind
        for department in catalogue["departments"]
        for kind in department["types"]
        if kind["id"] not in HELD_OUT_TYPES
    ]
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
    items = read_items("electronics", ["title", "category"])
    counts = items["category"].value_counts().filter(pl.col("count") >= 20)["category"]
    assert [name for name in counts if not matcher.match_category(name)] == ["All Electronics"]
    sample = items.filter(pl.col("category").is_in(counts.implode())).sample(400, seed=0)
    known = [find(matcher, title, category) is not None for title, category in sample.iter_rows()]
    # Of the others it says that it does not know: being right comes before answering.
    assert sum(known) / len(known) >= 0.8


def test_frequent_categories_of_scientific_are_covered(matcher: ConceptMatcher) -> None:
    items = read_items("scientific", ["title", "categories"])
    paths = [" > ".join(path.split(",")) for path in items["categories"].fill_null("")]
    parts = [tuple(path.split(" > ")) for path in paths]
    leaves = Counter(part for path in parts for part in {path, path[:-1]} if len(part) > 2)
    frequent = [" > ".join(path) for path, count in leaves.items() if count >= 15]
    assert frequent
    assert not [path for path in frequent if not matcher.match_category(path)]
    known = [find(matcher, title, path) for title, path in zip(items["title"], paths, strict=True)]
    assert sum(one is not None for one in known[::10]) / len(known[::10]) >= 0.75


@pytest.mark.parametrize(
    ("title", "category", "concept"),
    [
        ("JETech Case for iPad Mini 5", "Cases", "tablet-case"),
        ("Silicone Case Compatible with AirPods Pro", "Cases", "earbud-case"),
        ("Screen Protector for iPad 9", "", "screen-protector"),
        ("Travel Laptop Backpack for Men", "Computers", "laptop-bag"),
        (
            "Zellwerk PLA 1.75 mm Filament, Moss Green, 1 kg",
            "3D Printing Supplies > 3D Printing Filament",
            "filament-pla",
        ),
        (
            "Zellwerk PETG Filament 1.75mm, Smoke, 750 g",
            "3D Printing Supplies > 3D Printing Filament",
            "filament-petg",
        ),
        ("Hartgrat Flap Disc 4 Inch 80 Grit, Pack of 5", "Abrasive Wheels & Discs", "cutoff-wheel"),
        (
            "Brightvale Vinyl Electrical Tape, Black, 20 m",
            "Adhesive Tapes > Electrical Tape",
            "electrical-tape",
        ),
        ("Orrin Heat Shrink Tubing Kit, 3:1, Adhesive Lined", "", "heat-shrink"),
        ("Pellano Digital Caliper 150 mm, Steel", "Dimensional Measurement > Calipers", "caliper"),
        ("Talvik 0.25 W Resistor Kit, 40 Values", "Passive Components > Resistors", "resistor"),
        ("Norrin Ring Terminals for 10 AWG Wire, 50 Pieces", "Terminals > Ring Terminals", "crimp-terminals"),
        (
            "Ottermark Glass Dropper Bottle 30 ml, Amber",
            "Lab Bottles & Jars > Dropping Bottles",
            "dropper-bottle",
        ),
        ("Fenwold Dual Head Stethoscope, Teal", "Diagnostics & Screening > Stethoscopes", "stethoscope"),
        ("Lumbrook Portable SSD 1 TB, USB-C", "External Solid State Drives", "external-ssd"),
        ("Karrow Mesh WiFi System, 3 Pack", "Whole Home & Mesh Wi-Fi Systems", "mesh-wifi"),
        ("Vintor 650 W Modular Power Supply", "Internal Power Supplies", "psu"),
        ("Quillon E-Reader, 7 Inch, Warm Light", "eBook Readers", "ebook-reader"),
        ("Quillon Smart Speaker with Clock", "Amazon Devices", "smart-speaker"),
        ("Varrick Reusable Cable Ties, 100 Pack", "Cable Ties", "cable-ties"),
        ("Sablewood Turntable with Phono Preamp", "Turntables", "turntable"),
        ("Toller NOAA Weather Radio with Hand Crank", "Weather Radios", "weather-radio"),
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
    category, text, both = (
        match.confidence for product in products if (match := matcher.match_product(product))
    )
    assert both > max(category, text)
    assert min(category, text) >= MIN_CONFIDENCE


def test_claims_of_a_situation_are_the_same_words_for_all_its_concepts(handbook: Handbook) -> None:
    writer = ClaimWriter(handbook)
    situation = next(situation for situation in handbook.situations if situation.id == "pc-building")
    for concept in handbook.concepts:
        if concept.id in situation.concepts[:6]:
            match = ConceptMatch(concept, 0.9, "said so")
            assert situation.demand in [
                claim.text for claim in writer.write_facet_claims("demands", " ", match)
            ], concept.id


def test_a_cue_brings_its_situation_to_the_front_with_a_quotation(handbook: Handbook) -> None:
    concept = next(concept for concept in handbook.concepts if concept.id == "headset")
    match = ConceptMatch(concept, 0.9, "said so")
    claims = ClaimWriter(handbook).write_facet_claims(
        "demands", fold_words("Headset for PS5 and Xbox"), match
    )
    situation = next(situation for situation in handbook.situations if situation.id == "console-gaming")
    shown = next(claim for claim in claims if claim.text == situation.demand)
    assert (shown.source, shown.evidence) == ("catalogue", "ps5")
    assert len(claims) <= MAX_CLAIMS


def test_ids_of_no_concept_are_faults(tmp_path: Path) -> None:
    hints = ", ".join(f"{facet}: [a]" for facet in FACETS)
    (tmp_path / "a.yaml").write_text(
        "version: 1\nconcepts:\n"
        f"  - {{id: x, name: x, terms: [x], summary: x, {hints}, goes_with: [y], instead_of: [x]}}\n"
        "situations:\n  - {id: s, demand: d, scenario: e, concepts: [x, x, z]}\n"
    )
    with pytest.raises(UserError) as error:
        read_handbook(tmp_path)
    for fault in (
        "x: goes_with: no other concept is called y",
        "x: instead_of: ",
        "called z",
        "x stands twice",
    ):
        assert fault in str(error.value)


def test_an_ambiguous_term_is_a_term(tmp_path: Path) -> None:
    hints = ", ".join(f"{facet}: [a]" for facet in FACETS)
    concept = f"id: x, name: x, terms: [tap], ambiguous: [tab], summary: x, {hints}"
    (tmp_path / "a.yaml").write_text(f"version: 1\nconcepts: [{{{concept}}}]\n")
    with pytest.raises(UserError, match="tab are no terms of this concept"):
        read_handbook(tmp_path)


def test_a_handbook_of_ones_own_needs_no_departments(tmp_path: Path) -> None:
    hints = ", ".join(f"{facet}: [a]" for facet in FACETS)
    concept = f"id: ring, name: finger ring, terms: [gold ring], summary: a ring, {hints}"
    (tmp_path / "a.yaml").write_text(f"version: 1\nconcepts: [{{{concept}}}]\n")
    own_matcher = ConceptMatcher(read_handbook(tmp_path))
    assert find(own_matcher, "Gold Ring with Heart, Size 9") == "ring"
    assert find(own_matcher, "Gold Ring Box") != find(own_matcher, "Gold Ring")


def test_all_faults_of_a_handbook_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        read_handbook(tmp_path / "none")
    with pytest.raises(UserError, match="no concepts"):
        read_handbook(tmp_path)
    (tmp_path / "a.yaml").write_text(
        "version: 1\nconcepts:\n  - {id: x, name: y}\n  - {id: z, surprise: 1}\n"
    )
    (tmp_path / "b.yaml").write_text("concepts: [")
    (tmp_path / "c.yaml").write_text("notes: []")
    (tmp_path / "d.yaml").write_text("version: 1\nconcepts: 7")
    (tmp_path / "e.yaml").write_text(
        "version: 1\nconcepts: [{id: w, name: w, terms: [w], summary: w, demands: no}]\ntraits: [{id: t}]"
    )
    with pytest.raises(UserError) as error:
        read_handbook(tmp_path)
    for word in (
        "x:",
        "z:",
        "b.yaml",
        "c.yaml: expected",
        "d.yaml: concepts: expected",
        "write a list",
        "t: cues",
    ):
        assert word in str(error.value)
