"""A ranker's encoding for tests of the feature reader: it tells the price."""

from collections.abc import Sequence

import numpy as np

from contracts.array_types import IntArray
from feature_repo.online.item_cache import ItemAttributes, ItemFeatures

_NO_PRICE = -1


def by_price(item_ids: Sequence[str], sides: Sequence[ItemAttributes]) -> IntArray:
    """Codes [2, N]: always 1, and the price in tenths."""
    prices = [_NO_PRICE if price is None else int(10 * price) for _, _, price in sides]
    return np.array([[1] * len(item_ids), prices], np.int64)


def prices(items: ItemFeatures) -> list[float | None]:
    """Prices of items that were encoded by `by_price`."""
    return [None if price == _NO_PRICE else price / 10 for price in items.codes[1].tolist()]
