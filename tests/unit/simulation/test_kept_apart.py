"""The world's words and the handbook's words are kept apart: what is copied would be a test of memory."""

import re
from importlib.resources import files

import numpy as np
import pytest

from models.knowledge.distillation.product_text import read_product
from models.knowledge.handbook.concept_matcher import ConceptMatcher
from models.knowledge.handbook.handbook_files import read_handbook
from simulation.catalogue import draw_catalogue
from simulation.config import SimulationConfig
from simulation.shop_world import load_shop_world

HELD_OUT_TYPES = (
    *("small_pet_home", "small_pet_food", "small_pet_play", "ski_goggles", "ski_clothing", "sledge"),
    *("fishing_rod", "fishing_tackle", "angler_gear", "wetsuit", "snorkel_set", "paddle_board"),
    *("bee_hive", "bee_suit", "honey_tools", "rollator", "bath_safety", "daily_care"),
    *("pottery_wheel", "clay", "pottery_tools", "riding_helmet", "horse_tack", "stable_care"),
)
"""Product types that came after the handbook; it has no concept of them, and must not get one."""


@pytest.fixture(scope="module")
def handbook_text() -> str:
    entries = files("models.knowledge.handbook").iterdir()
    return fold_text(" ".join(entry.read_text() for entry in entries if entry.name.endswith(".yaml")))


def fold_text(text: str) -> str:
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def list_word_groups(texts: tuple[str, ...] | list[str], size: int) -> list[str]:
    word_lists = [fold_text(text).split() for text in texts]
    return [
        f" {' '.join(words[start : start + size])} "
        for words in word_lists
        for start in range(len(words) - size + 1)
    ]


def test_no_query_of_three_words_stands_in_the_handbook(handbook_text: str) -> None:
    queries = [query for query in load_shop_world().queries if len(query.split()) >= 3]
    assert [query for query in queries if fold_text(query) in handbook_text] == []


def test_queries_share_few_groups_of_words_with_the_handbook(handbook_text: str) -> None:
    groups = list_word_groups(load_shop_world().queries, 3)
    shared = [group for group in groups if group in handbook_text]
    assert len(shared) < 0.06 * len(groups)


def test_queries_are_not_copied_from_titles() -> None:
    world = load_shop_world()
    names = " | ".join(fold_text(name) for kind in world.types for name in kind.names)
    copied = [query for query in world.queries if fold_text(query) in names]
    assert len(copied) < 0.1 * len(world.queries)


def test_few_product_names_and_no_sentence_stand_in_the_handbook(handbook_text: str) -> None:
    types = load_shop_world().types
    names = [name for kind in types for name in kind.names]
    assert sum(fold_text(name) in handbook_text for name in names) < 0.1 * len(names)
    assert [text for kind in types for text in kind.text if fold_text(text) in handbook_text] == []


def test_the_handbook_has_no_concept_of_the_held_out_types() -> None:
    """Where it answers all the same, it names a concept of another kind of product."""
    world = load_shop_world()
    type_ids = [kind.type_id for kind in world.types]
    handbook = read_handbook()
    assert not {concept.id.replace("-", "_") for concept in handbook.concepts} & set(HELD_OUT_TYPES)
    catalogue = draw_catalogue(SimulationConfig(num_items=600), world, np.random.default_rng(0))
    is_held_out = np.isin(np.array(type_ids)[catalogue.types], HELD_OUT_TYPES)
    matcher = ConceptMatcher(handbook)
    is_matched = np.array(
        [matcher.find_concept(read_product(row)) is not None for row in catalogue.items.to_dicts()]
    )
    assert is_held_out.mean() > 0.12
    assert is_matched[is_held_out].mean() < 0.4 < is_matched[~is_held_out].mean()


def test_needs_span_departments() -> None:
    """More than a third of what a need makes people want lies outside its main department."""
    world = load_shop_world()
    departments = np.array([kind.department for kind in world.types])
    shares_outside = []
    for first, end in zip(world.first_phase[:-1], world.first_phase[1:], strict=True):
        wants = np.bincount(departments, weights=world.phase_wants[first:end].sum(axis=0))
        shares_outside.append(1 - wants.max() / wants.sum())
    assert np.mean(shares_outside) > 0.33
    assert min(shares_outside) > 0.2
