"""Rankers of a prepared shop: trained once, and scored on its test pages and on the visits of the truth.

Shape letters: R visits, C candidates of each, M candidates of all test pages.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks.loop.prepared_shop import TRUTH_PROTOCOL, PreparedShop
from benchmarks.shared.results import digest_sources
from contracts.array_types import FloatArray, IntArray
from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from contracts.digests import digest_value
from models.ranker.config import IDS_ONLY, WITHOUT_KNOWLEDGE, RankerConfig, RankerFeatures
from models.ranker.evaluation.exported_ranker import CandidateScores, ExportedRanker
from models.ranker.lists.build_lists import TEST
from models.ranker.lists.encode_catalogue import read_item_vectors
from models.ranker.lists.encode_lists import TRAINING_SET_FILE, encode_lists
from models.ranker.lists.item_statistics import ItemActivity
from models.ranker.lists.mapped_lists import RankingLists
from models.ranker.training.train_ranker import train_ranker, train_ranker_into

RANKERS: dict[str, RankerFeatures] = {
    "full": RankerFeatures(),
    "with_inferred": RankerFeatures().model_copy(update={"inferred": True}),
    "without_inferred": RankerFeatures().model_copy(update={"inferred": False}),
    "strong": WITHOUT_KNOWLEDGE,
    "ids": IDS_ONLY,
}
"""Ranker -> its switches. `strong` has all but what a language model knows; `ids` is the demo's control."""
UNTRIED = "with_inferred"
"""Reads inferred behaviors whatever its own pages say of them; `full` keeps them only if they pay there."""


TRAINING_SOURCES = tuple(
    f"models/ranker/{room}" for room in ("config.py", "inputs", "lists", "network", "training", "export")
)
"""What makes a ranker: another gate does not train it anew."""
SCORING_SOURCES = (
    *TRAINING_SOURCES,
    "models/ranker/evaluation/exported_ranker.py",
    "benchmarks/loop/scored_rankers.py",
)


class RankerScores(NamedTuple):
    """What a ranker says of a shop's pages."""

    test: CandidateScores
    """[M] of the test pages."""
    truth: CandidateScores
    """[R * C] of the visits after the log."""


def describe_ranker(features: RankerFeatures, **changes: Any) -> RankerConfig:
    """A ranker of the benchmark: the defaults, one thread, and what is to differ."""
    return RankerConfig(features=features, num_threads=1).model_copy(update=changes)


def score_ranker_once(
    prepared: PreparedShop, name: str, config: RankerConfig, *, training_set: Path | None = None
) -> RankerScores:
    """Trains a ranker and scores it, or reads what was scored before by the same code.

    Args:
        prepared: the shop.
        name: of the ranker.
        config: the ranker.
        training_set: to train from; the shop's own by default.
    """
    folder = train_ranker_once(prepared, name, config, training_set=training_set or prepared.training_set)
    pages = [read_lineage(path).digest for path in (prepared.training_set, prepared.truth_set)]
    code_digest = digest_sources(*SCORING_SOURCES)
    scores_file = folder / f"scores-{digest_value([pages, code_digest])}.npz"
    if not scores_file.exists():
        ranker = open_ranker(folder / "ranker", prepared.dataset, prepared.space)
        write_scores(scores_file, score_shop(prepared, ranker))
    return read_scores(scores_file)


def train_ranker_once(prepared: PreparedShop, name: str, config: RankerConfig, *, training_set: Path) -> Path:
    """Trains a ranker into `<folder>/ranker` and returns the folder; a ranker of the same code is kept."""
    inputs = prepared.ranker_inputs._replace(training_set=training_set)
    input_digests = [read_lineage(path).digest for path in inputs]
    # Equal switches make equal rankers, whatever they are called.
    settings = [config.model_dump(mode="json"), name == UNTRIED]
    key = digest_value([settings, input_digests, digest_sources(*TRAINING_SOURCES)])
    folder = prepared.folder / "rankers" / key
    if not (folder / "ranker").exists():
        print(f"{prepared.name}: training {name}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        train = _train_untried if name == UNTRIED else train_ranker
        train(*inputs, config, checkpoints=folder / "checkpoints", out=folder / "ranker")
    return folder


def _train_untried(
    training_set: Path,
    dataset: Path,
    item_embeddings: Path,
    config: RankerConfig,
    *,
    checkpoints: Path,
    out: Path,
) -> None:
    """Trains with the switches as they are: the trial of `train_ranker` is what is to be judged."""
    inputs = {"training_set": training_set, "dataset": dataset, "item_embeddings": item_embeddings}
    with TemporaryDirectory(dir=out.parent) as scratch:
        staging = Path(scratch) / "ranker"
        train_ranker_into(
            inputs, config=config, checkpoints=checkpoints, scratch=Path(scratch), folder=staging
        )
        staging.rename(out)


def open_ranker(folder: Path, dataset: Path, space: Path) -> ExportedRanker:
    """Opens a ranker artifact with a shop's catalogue, on one thread."""
    vectors, space_name, _ = read_item_vectors(space)
    items = read_dataset(dataset).items
    return ExportedRanker(folder, items, vectors, space=space_name, num_threads=1)


def score_shop(prepared: PreparedShop, ranker: ExportedRanker) -> RankerScores:
    """Scores the test pages and the visits of the truth as the gateway would."""
    with (
        open_lists(prepared.training_set, prepared.dataset, "impressions", ranker) as test_lists,
        open_lists(prepared.truth_set, prepared.dataset, TRUTH_PROTOCOL, ranker) as truth_lists,
    ):
        return RankerScores(ranker.score_lists(test_lists), ranker.score_lists(truth_lists))


@contextmanager
def open_lists(
    training_set: Path, dataset: Path, protocol: str, ranker: ExportedRanker | None = None
) -> Iterator[RankingLists]:
    """Test lists of a protocol, as the ranker reads them; without one, of the users only what is newest."""
    data = read_dataset(dataset)
    item_id_enum, activity = pl.Enum(data.items["item_id"]), None
    if ranker is not None and ranker.spec.features.statistics:
        activity = ItemActivity.index_behaviors(data.behaviors, item_id_enum)
    with TemporaryDirectory() as scratch:
        yield encode_lists(
            training_set / TRAINING_SET_FILE,
            item_id_enum,
            split=TEST,
            protocol=protocol,
            lengths=(ranker.spec.history_length, ranker.spec.inferred_length) if ranker else (1, 1),
            scratch=Path(scratch),
            activity=activity,
            search=ranker.history_search if ranker else None,
        )


def read_test_users(training_set: Path) -> IntArray:
    """User of each test page, counted from 0."""
    is_test_page = (pl.col("split") == TEST) & (pl.col("protocol") == "impressions")
    users = pl.scan_parquet(training_set / TRAINING_SET_FILE).filter(is_test_page).select("user_id").collect()
    return (users["user_id"].rank("dense").cast(pl.Int64) - 1).to_numpy()


def write_scores(path: Path, scores: RankerScores) -> None:
    """Writes scores; the file appears whole or not at all."""
    arrays: dict[str, FloatArray] = {
        f"{part}_{name}": values
        for part, of_part in scores._asdict().items()
        for name, values in of_part._asdict().items()
        if values is not None
    }
    temporary_file = path.with_name(f".{path.name}.tmp.npz")
    np.savez(temporary_file, allow_pickle=False, **arrays)
    temporary_file.replace(path)


def read_scores(path: Path) -> RankerScores:
    """Reads what `write_scores` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        arrays: Mapping[str, FloatArray] = dict(stored)
    parts = (
        CandidateScores(*(arrays.get(f"{part}_{name}") for name in CandidateScores._fields))  # type: ignore[arg-type]
        for part in RankerScores._fields
    )
    return RankerScores(*parts)
