"""Does an enhancement pay on pages? The ranker with it against the ranker without, on validation pages.

What looks like a gain on sampled lists may cost clicks on pages (docs/log.md). So every run asks its own log.
"""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from contracts.dataset import read_dataset
from models.ranker.evaluation.counterfactual_value import estimate_page_values, expect_outcomes
from models.ranker.evaluation.examination import estimate_examination
from models.ranker.evaluation.exported_ranker import ExportedRanker
from models.ranker.evaluation.paired_bootstrap import compare_rankers
from models.ranker.lists.build_lists import VALIDATION
from models.ranker.lists.encode_catalogue import read_item_vectors
from models.ranker.lists.encode_lists import TRAINING_SET_FILE, encode_lists

ENHANCEMENTS_FILE = "enhancements.json"
"""In a ranker artifact: what was tried in its training, what it gained, and whether it was kept."""
_NUM_BOOTSTRAP = 1000


class EnhancementTrial(NamedTuple):
    """Clicks a page with the enhancement over those without, relative."""

    gain: float
    low: float
    """Lower end of the gain's interval."""
    high: float
    """Upper end of the gain's interval."""
    is_kept: bool


def try_enhancement(
    enhanced: Path,
    plain: Path,
    training_set: Path,
    dataset: Path,
    item_embeddings: Path,
    *,
    scratch: Path,
    num_threads: int,
) -> EnhancementTrial:
    """Compares two ranker folders on the shown validation pages; what is not surely a gain is not kept.

    Args:
        enhanced: folder of the ranker with the enhancement.
        plain: folder of the ranker without.
        training_set: training set of both.
        dataset: dataset of both.
        item_embeddings: item embeddings of both.
        scratch: folder for mapped lists.
        num_threads: CPU threads.
    """
    items, (vectors, space, _) = read_dataset(dataset).items, read_item_vectors(item_embeddings)
    lists_file = training_set / TRAINING_SET_FILE
    rankers = [
        ExportedRanker(folder, items, vectors, space=space, num_threads=num_threads)
        for folder in (enhanced, plain)
    ]
    lists = encode_lists(
        lists_file,
        rankers[0].table.item_id_enum,
        split=VALIDATION,
        protocol="impressions",
        lengths=(rankers[0].spec.history_length, rankers[0].spec.inferred_length),
        scratch=scratch,
        search=rankers[0].history_search,
    )
    if not len(lists) or not lists.clicks.any():
        return EnhancementTrial(0.0, 0.0, 0.0, is_kept=False)
    examination = estimate_examination(lists_file)
    scores = [ranker.score_lists(lists) for ranker in rankers]
    expected = expect_outcomes(lists, scores[1], examination)
    with_it, without_it = (
        estimate_page_values(lists, score.score, examination, expected, pool_factor=1.0).estimates["clicks"]
        for score in scores
    )
    usual = float(without_it.mean())
    if usual <= 0:
        return EnhancementTrial(0.0, 0.0, 0.0, is_kept=False)
    is_asked = (pl.col("split") == VALIDATION) & (pl.col("protocol") == "impressions")
    user_ids = pl.scan_parquet(lists_file).filter(is_asked).select("user_id").collect()["user_id"]
    users = (user_ids.rank("dense").cast(pl.Int64) - 1).to_numpy()
    comparison = compare_rankers(with_it / usual, without_it / usual, users, num_bootstrap=_NUM_BOOTSTRAP)
    return EnhancementTrial(
        comparison.difference, comparison.low, comparison.high, is_kept=comparison.low > 0
    )
