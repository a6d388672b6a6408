"""The test lists of every protocol, as each of the rankers that are compared reads them."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import IntArray
from contracts.dataset import read_dataset
from models.ranker.evaluation.exported_ranker import ExportedRanker
from models.ranker.lists.build_lists import TEST
from models.ranker.lists.encode_lists import encode_lists
from models.ranker.lists.item_statistics import ItemActivity
from models.ranker.lists.mapped_lists import RankingLists

Rankers = dict[str, ExportedRanker]
"""Role (challenger, baseline, champion) -> ranker."""


class ProtocolLists(NamedTuple):
    """The test lists of one protocol."""

    by_search: dict[tuple[int, int, int], RankingLists]
    """By how a ranker searches histories (`RankerSpec.search_settings`)."""
    users: IntArray
    """User of each list, counted from 0."""
    full_size: int | None
    """Candidates of the longest list: shorter ones are measured as if they had as many. None where a page
    has the size that it has."""

    def select_for(self, ranker: ExportedRanker) -> RankingLists:
        """The lists as the ranker reads them."""
        return self.by_search[ranker.spec.search_settings]


def encode_test_lists(
    lists_file: Path, dataset: Path, rankers: Rankers, scratch: Path
) -> dict[str, ProtocolLists]:
    """Protocol -> its test lists, once for each way in which a ranker searches histories.

    Args:
        lists_file: the rows of a training set.
        dataset: the dataset artifact that they were made from.
        rankers: who will score them.
        scratch: folder for the encoded lists; they are mapped, so it must outlive them.
    """
    specs = [ranker.spec for ranker in rankers.values()]
    inferred_length = max(spec.inferred_length for spec in specs)
    item_id_enum = rankers["challenger"].table.item_id_enum
    activity = None
    if any(spec.features.statistics for spec in specs):
        activity = ItemActivity.index_behaviors(read_dataset(dataset).behaviors, item_id_enum)
    # Rankers that search alike share the encoded lists; most only cut and share one set.
    searches = {ranker.spec.search_settings: ranker.history_search for ranker in rankers.values()}
    history_lengths = {
        settings: max(spec.history_length for spec in specs if spec.search_settings == settings)
        for settings in searches
    }
    test_rows = pl.scan_parquet(lists_file).filter(pl.col("split") == TEST)
    list_users = test_rows.select("protocol", "user_id").collect()
    lists = {}
    for protocol in sorted(list_users["protocol"].unique()):
        encode = partial(
            encode_lists, lists_file, item_id_enum, split=TEST, protocol=protocol, activity=activity
        )
        by_search = {
            settings: encode(
                lengths=(history_lengths[settings], inferred_length),
                search=search,
                scratch=scratch / f"{protocol}-{'-'.join(map(str, settings))}",
            )
            for settings, search in searches.items()
        }
        protocol_users = list_users.filter(pl.col("protocol") == protocol)["user_id"]
        user_codes = protocol_users.rank("dense").cast(pl.Int64) - 1
        full_size = None
        if protocol != "impressions":
            full_size = int(np.diff(next(iter(by_search.values())).offsets).max())
        lists[protocol] = ProtocolLists(by_search, user_codes.to_numpy(), full_size)
    return lists
