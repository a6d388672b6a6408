import numpy as np

from feature_repo.items import ItemCache, ItemFeatures


def _rows(*item_ids: str, known: bool = True) -> ItemFeatures:
    n = len(item_ids)
    vectors = np.array([[float(item_id), 1.0] for item_id in item_ids], np.float32)
    flags = np.full(n, known)
    return ItemFeatures(item_ids, ["A"] * n, [None] * n, [float(i) for i in item_ids], vectors, flags, flags)


def test_it_gives_back_what_was_put_in_the_order_asked():
    cache = ItemCache(capacity=10, dim=2)
    cache.put(_rows("1", "2", "3"))
    found = cache.get(["3", "9", "1", "3"])
    assert found.known.tolist() == [True, False, True, True]
    assert found.prices == [3.0, None, 1.0, 3.0]
    assert found.vectors.tolist() == [[3, 1], [0, 0], [1, 1], [3, 1]]


def test_it_stays_bounded_and_drops_the_oldest():
    cache = ItemCache(capacity=3, dim=2)
    for number in range(50):
        cache.put(_rows(str(number)))
    assert len(cache) == 3
    assert cache.missing(["47", "48", "49", "46", "46"]) == ["46"]
    assert cache.get(["49"]).vectors.tolist() == [[49, 1]]


def test_unknown_items_are_asked_for_again():
    cache = ItemCache(capacity=3, dim=2)
    cache.put(_rows("1", known=False))
    assert cache.missing(["1"]) == ["1"]


def test_putting_an_item_again_replaces_it():
    cache = ItemCache(capacity=3, dim=2)
    cache.put(_rows("1"))
    cache.put(_rows("1")._replace(prices=[7.0]))
    assert len(cache) == 1
    assert cache.get(["1"]).prices == [7.0]


def test_nothing_asked_nothing_given():
    found = ItemCache(capacity=3, dim=2).get([])
    assert found.vectors.shape == (0, 2)
    assert found.categories == []


def test_unknown_items_are_filled_in_and_known_ones_stay():
    cache = ItemCache(capacity=2, dim=2)
    cache.put(_rows("1"))
    found = cache.get(["3", "1", "2", "9", "3"])
    cache.put(_rows("2", "3", "4"))  # more than fit
    found.fill_from(_rows("2", "3", "1")._replace(prices=[2.0, 3.0, 99.0]))
    assert found.prices == [3.0, 1.0, 2.0, None, 3.0]
    assert found.vectors[:, 0].tolist() == [3, 1, 2, 0, 3]
    assert found.known.tolist() == found.has_vector.tolist() == [True, True, True, False, True]
    assert cache.get(["9"]).vectors.tolist() == [[0, 0]]
