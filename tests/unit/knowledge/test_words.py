"""What the exact words of a title tell."""

import numpy as np
import polars as pl

from contracts.tables import ITEMS
from models.knowledge.embedding.exact_words import (
    PAGE_WORDS,
    TITLE_WORDS,
    WordVectorizer,
    collect_word_texts,
    fit_word_vectorizers,
)
from models.knowledge.embedding.item_views import normalize_rows

TITLES = [
    f"case for {device} in {color}" for device in ("ipad-9.7", "kindle") for color in ("red", "blue", "gray")
]
TITLES += [f"lamp {number}w {kind}" for number in (5, 9) for kind in ("desk", "floor", "wall")] * 2


def fit_titles(texts: list[str], max_axes: int = 8) -> WordVectorizer:
    return WordVectorizer.fit_texts(texts, longest_run=2, max_axes=max_axes, seed=0)


def test_titles_with_the_same_model_are_close() -> None:
    vectors = fit_titles(TITLES).vectorize_texts(TITLES)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[3] + 0.2, "the same device in another color"
    assert abs(vectors[0] @ vectors[8]) < 0.2
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_new_title_is_placed_by_the_words_that_are_known() -> None:
    words = fit_titles(TITLES)
    new, strange = words.vectorize_texts(["sleeve for ipad-9.7", "xylophone"])
    assert new @ words.vectorize_texts(TITLES)[0] > 0.5
    assert not strange.any()


def test_directions_that_no_title_has_are_not_blown_up() -> None:
    axes = fit_titles(TITLES * 2, 20).axes
    assert np.abs(axes).max() < 10, "equal titles leave fewer directions than are asked for"


def test_words_survive_being_stored() -> None:
    words = fit_titles(TITLES)
    np.testing.assert_array_equal(
        WordVectorizer.from_tensors(words.to_tensors()).vectorize_texts(TITLES), words.vectorize_texts(TITLES)
    )


def test_too_few_words_make_no_aspect() -> None:
    for titles in ([], ["one"], ["alpha", "beta"]):
        words = fit_titles(titles)
        assert words.vectorize_texts(titles).shape == (len(titles), 0)
        assert WordVectorizer.from_tensors(words.to_tensors()).axes.size == 0


def test_brand_and_category_are_one_word_each_and_may_be_missing() -> None:
    rows = [
        {
            "item_id": "a",
            "title": "Fan",
            "brand": "Big  Wind Co",
            "category": "Home > Air Care",
            "description": "Cools.",
        },
        {"item_id": "b", "title": "Fan", "brand": None},
    ]
    texts = collect_word_texts(pl.DataFrame(rows, schema=ITEMS.schema))
    title = "Fan brand:big_wind_co category:home category:air_care"
    assert texts == {TITLE_WORDS: [title, "Fan"], PAGE_WORDS: [f"{title} Cools.", "Fan"]}


def test_only_titles_are_read_in_pairs() -> None:
    words = fit_word_vectorizers({TITLE_WORDS: TITLES, PAGE_WORDS: TITLES}, seed=0)
    assert "9w desk" in words[TITLE_WORDS].vocabulary
    assert not any(" " in word for word in words[PAGE_WORDS].vocabulary)


def test_leading_directions_are_of_unit_norm_on_their_own() -> None:
    words = fit_titles(TITLES)
    leading = normalize_rows(words.vectorize_texts(TITLES)[:, :3])
    np.testing.assert_allclose(words.vectorize_texts(TITLES, num_axes=3), leading, atol=1e-3)


def test_brands_and_words_of_all_scripts_count_as_one() -> None:
    texts = [
        "Kühlschrank A+ brand:big_wind_co",
        "Kühlschrank usb-c brand:big_wind_co",
        "風扇 usb-c",
        "風扇 9.7",
    ] + ["x"] * 20
    vocabulary = fit_titles(texts, 4).vocabulary
    assert {"kühlschrank", "brand:big_wind_co", "風扇", "usb-c"} <= set(vocabulary)
    assert not {"brand", "hlschrank", "wind"} & set(vocabulary)
