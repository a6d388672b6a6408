"""What the exact words of a title tell."""

import numpy as np
import polars as pl

from contracts.tables import ITEMS
from models.knowledge.config import AspectsConfig
from models.knowledge.words import Words, word_texts

TITLES = [f"case for {device} in {colour}" for device in ("ipad-9.7", "kindle") for colour in ("red", "blue", "grey")]
TITLES += [f"lamp {number}w {kind}" for number in (5, 9) for kind in ("desk", "floor", "wall")] * 2


def test_titles_with_the_same_model_are_close() -> None:
    vectors = Words.fit(TITLES, AspectsConfig(words=8), seed=0).apply(TITLES)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[3] + 0.2, "the same device in another colour"
    assert abs(vectors[0] @ vectors[8]) < 0.2
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_new_title_is_placed_by_the_words_that_are_known() -> None:
    words = Words.fit(TITLES, AspectsConfig(words=8), seed=0)
    new, strange = words.apply(["sleeve for ipad-9.7", "xylophone"])
    assert new @ words.apply(TITLES)[0] > 0.5
    assert not strange.any()


def test_directions_that_no_title_has_are_not_blown_up() -> None:
    axes = Words.fit(TITLES * 2, AspectsConfig(words=20), seed=0).axes
    assert np.abs(axes).max() < 10, "equal titles leave fewer directions than are asked for"


def test_words_survive_being_stored() -> None:
    words = Words.fit(TITLES, AspectsConfig(words=8), seed=0)
    np.testing.assert_array_equal(Words.from_tensors(words.tensors()).apply(TITLES), words.apply(TITLES))


def test_too_few_words_make_no_aspect() -> None:
    for titles in ([], ["one"], ["alpha", "beta"]):
        words = Words.fit(titles, AspectsConfig(), seed=0)
        assert words.apply(titles).shape == (len(titles), 0)
        assert Words.from_tensors(words.tensors()).axes.size == 0


def test_a_brand_is_one_word_and_may_be_missing() -> None:
    rows = [{"item_id": "a", "title": "Fan", "brand": "Big  Wind Co"}, {"item_id": "b", "title": "Fan", "brand": None}]
    assert word_texts(pl.DataFrame(rows, schema=ITEMS.schema)) == ["Fan brand:big_wind_co", "Fan"]


def test_brands_and_words_of_all_scripts_count_as_one() -> None:
    texts = ["Kühlschrank A+ brand:big_wind_co", "Kühlschrank usb-c brand:big_wind_co", "風扇 usb-c", "風扇 9.7"] + [
        "x"
    ] * 20
    vocabulary = Words.fit(texts, AspectsConfig(words=4), seed=0).vocabulary
    assert {"kühlschrank", "brand:big_wind_co", "風扇", "usb-c"} <= set(vocabulary)
    assert not {"brand", "hlschrank", "wind"} & set(vocabulary)
