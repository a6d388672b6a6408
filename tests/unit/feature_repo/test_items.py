import numpy as np
from price_codes import by_price, prices

from feature_repo.online.item_cache import ItemCache, StoredItems


def _rows(*item_ids: str, known: bool = True) -> StoredItems:
    vectors = np.array([[float(item_id), 1.0] for item_id in item_ids], np.float16)
    flags = np.full(len(item_ids), known)
    return StoredItems(item_ids, [("A", None, float(item_id)) for item_id in item_ids], vectors, flags, flags)


def _get(cache: ItemCache, *item_ids: str, ranker: str = "r", encode=by_price):
    return cache.look_up_items(item_ids, ranker=ranker, encode=encode)


def test_it_gives_back_what_was_put_in_the_order_asked():
    cache = ItemCache(capacity=10, dim=2)
    cache.store_items(_rows("1", "2", "3"))
    for _ in range(2):
        found = _get(cache, "3", "9", "1", "3")
        assert found.is_stored.tolist() == [True, False, True, True]
        assert prices(found) == [3, None, 1, 3]
        assert found.vectors.tolist() == [[3, 1], [0, 0], [1, 1], [3, 1]]


def test_each_item_is_encoded_once_for_each_ranker():
    cache, asked = ItemCache(capacity=10, dim=2), []

    def encode(item_ids, sides):
        asked.extend(item_ids)
        return by_price(item_ids, sides)

    cache.store_items(_rows("1", "2"))
    for ranker in ("r", "s", "r"):
        assert prices(_get(cache, "2", "1", "2", ranker=ranker, encode=encode)) == [2, 1, 2]
    assert sorted(asked) == ["1", "1", "2", "2", "2", "2"]
    assert prices(_get(cache, "unknown", "1")) == prices(_get(cache, "unknown", "1")) == [None, 1]


def test_codes_of_rankers_that_nobody_asks_for_make_room():
    cache = ItemCache(capacity=3, dim=2)
    cache.store_items(_rows("1"))
    for number in range(40):
        assert (
            prices(_get(cache, "1", ranker=f"r{number}"))
            == prices(_get(cache, "1", ranker="champion"))
            == [1]
        )
    assert len(cache._codes) < 10
    assert "champion" in cache._codes


def test_it_stays_bounded_and_drops_the_oldest():
    cache = ItemCache(capacity=3, dim=2)
    for number in range(50):
        cache.store_items(_rows(str(number)))
        assert prices(_get(cache, str(number))) == [number]
    assert len(cache) == 3
    assert cache.list_uncached(["47", "48", "49", "46", "46"]) == ["46"]
    assert _get(cache, "49").vectors.tolist() == [[49, 1]]


def test_unknown_items_are_asked_for_again():
    cache = ItemCache(capacity=3, dim=2)
    cache.store_items(_rows("1", known=False))
    assert cache.list_uncached(["1"]) == ["1"]


def test_putting_an_item_again_replaces_it():
    cache = ItemCache(capacity=3, dim=2)
    cache.store_items(_rows("1"))
    assert prices(_get(cache, "1")) == [1]
    cache.store_items(_rows("1")._replace(attributes=[(None, None, 7.0)]))
    assert len(cache) == 1
    assert prices(_get(cache, "1")) == [7]


def test_nothing_asked_nothing_given():
    found = _get(ItemCache(capacity=3, dim=2))
    assert found.vectors.shape == (0, 2)
    assert prices(found) == []


def test_unknown_items_are_filled_in_and_known_ones_stay():
    cache = ItemCache(capacity=2, dim=2)
    cache.store_items(_rows("1"))
    found = _get(cache, "3", "1", "2", "9", "3")
    cache.store_items(_rows("2", "3", "4"))  # more than fit
    read = _rows("2", "3", "1")._replace(
        attributes=[(None, None, 2.0), (None, None, 3.0), (None, None, 99.0)]
    )
    found.fill_unknown_from(read.encode_with(by_price))
    assert prices(found) == [3, 1, 2, None, 3]
    assert found.vectors[:, 0].tolist() == [3, 1, 2, 0, 3]
    assert found.is_stored.tolist() == found.has_vector.tolist() == [True, True, True, False, True]
    assert _get(cache, "9").vectors.tolist() == [[0, 0]]
