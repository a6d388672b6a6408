"""How benchmarks train and measure a ranker: one trial is one ranker of one data set with one seed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import polars as pl

from benchmarks.shared.results import Row, digest_sources, make_row
from contracts.array_types import DoubleArray, IntArray
from contracts.artifacts import read_lineage, write_json
from contracts.dataset import Dataset, read_dataset, select_events_before
from contracts.digests import digest_value
from models.ranker.config import RankerConfig, RankerFeatures
from models.ranker.evaluation.exported_ranker import ExportedRanker
from models.ranker.evaluation.list_slices import count_training_events, find_clicked_items
from models.ranker.evaluation.measure_ranker import MeasuredRanker, average_measured, measure_ranker
from models.ranker.lists.build_lists import TEST
from models.ranker.lists.encode_catalogue import read_item_vectors
from models.ranker.lists.encode_lists import TRAINING_SET_FILE, encode_lists
from models.ranker.lists.item_statistics import ItemActivity
from models.ranker.lists.mapped_lists import RankingLists
from models.ranker.training.train_ranker import read_training_protocol, train_ranker

PROTOCOLS = {"contemporaneous": "", "within_cold": "cold_"}
"""Protocol -> prefix of its metrics."""
NEWNESS: dict[str, tuple[int, int]] = {"unmet": (0, 0), "new": (1, 4), "young": (5, 20)}
"""Prefix of metrics -> the least and the most training events of the item that was turned to."""
METRICS = ("ndcg10", "cold_ndcg10")
NEW_ITEM_METRICS = tuple(f"{name}_ndcg10" for name in NEWNESS)
FULL_EPOCHS = RankerConfig().max_epochs
QUICK_EPOCHS = 3
"""Enough to tell a broken ranker from a sound one."""
_LEAST_LISTS = 30
"""Fewer tell nothing of a slice."""


class Trial(NamedTuple):
    """One ranker of one data set with one seed."""

    dataset: str
    ranker: str
    seed: int


class RankerInputs(NamedTuple):
    """Artifact folders that a ranker is trained from."""

    training_set: Path
    dataset: Path
    space: Path


def run_trial_once(
    trial: Trial, features: RankerFeatures, inputs: RankerInputs, max_epochs: int = FULL_EPOCHS
) -> dict[str, float]:
    """Trains and measures one ranker: `<protocol's prefix><metric>` -> value.

    The metrics are kept for these inputs and this code, so a benchmark that was stopped goes on where it was.
    """
    config = RankerConfig(seed=trial.seed, num_threads=1, features=features, max_epochs=max_epochs)
    inputs_read = [config.model_dump(mode="json"), [read_lineage(path).digest for path in inputs]]
    code_digest = digest_sources("models/ranker", "benchmarks/ranker/trials.py")
    trial_key = digest_value([*inputs_read, code_digest])
    trial_file = inputs.training_set.parent / "trials" / f"{trial.ranker}-{trial.seed}-{trial_key}.json"
    if not trial_file.exists():
        trial_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(trial_file, train_and_score_ranker(config, inputs))
    metrics: dict[str, float] = json.loads(trial_file.read_text())
    print(*trial, *(f"{name} {value:.4f}" for name, value in metrics.items()), flush=True)
    return metrics


def train_and_score_ranker(config: RankerConfig, inputs: RankerInputs) -> dict[str, float]:
    """Trains a ranker and measures it on the test part: `<protocol's prefix><metric>` -> value.

    A ranker that learned pages is measured on pages: how it orders sampled lists says nothing of it.
    """
    is_shown = read_training_protocol(inputs.training_set / TRAINING_SET_FILE) == "impressions"
    prefixes = {"impressions": ""} if is_shown else PROTOCOLS
    with TemporaryDirectory() as scratch:
        measured = measure_trained_ranker(config, inputs, Path(scratch), tuple(prefixes))
        return {
            f"{prefixes[protocol]}{name}ndcg10": value
            for protocol, lists in measured
            for name, value in {"": lists.summary["ndcg10"], **lists.ndcg_by_newness}.items()
        }


class MeasuredLists(NamedTuple):
    """What a ranker did on the test lists of one protocol."""

    summary: dict[str, float]
    """Metric -> value."""
    ndcg: DoubleArray
    """NDCG@10 of each list, [N]; NaN where a list has no positive."""
    ndcg_by_newness: dict[str, float]
    """Prefix of `NEWNESS` -> mean NDCG@10; a slice of few lists is absent."""


def measure_trained_ranker(
    config: RankerConfig, inputs: RankerInputs, scratch: Path, protocols: Sequence[str]
) -> Iterator[tuple[str, MeasuredLists]]:
    """Trains a ranker into `scratch/ranker` and measures it on the test lists of each protocol."""
    ranker_folder = scratch / "ranker"
    train_ranker(*inputs, config, checkpoints=scratch / "checkpoints", out=ranker_folder)
    dataset = read_dataset(inputs.dataset)
    vectors, space_name, _ = read_item_vectors(inputs.space)
    num_threads = config.num_threads or 0
    ranker = ExportedRanker(ranker_folder, dataset.items, vectors, space=space_name, num_threads=num_threads)
    activity = None
    if ranker.spec.features.statistics:
        activity = ItemActivity.index_behaviors(dataset.behaviors, ranker.table.item_id_enum)
    training_file = inputs.training_set / TRAINING_SET_FILE
    for protocol in protocols:
        test_lists, users = _read_test_lists(training_file, ranker, protocol, scratch / protocol, activity)
        measured = measure_ranker(test_lists, ranker.score_lists(test_lists, batch_size=256), users)
        ndcg_by_newness = _average_by_newness(measured, test_lists, dataset, ranker)
        yield protocol, MeasuredLists(*measured, ndcg_by_newness)


def _average_by_newness(
    measured: MeasuredRanker, lists: RankingLists, dataset: Dataset, ranker: ExportedRanker
) -> dict[str, float]:
    """Mean NDCG@10 of the lists whose clicked item had so many events before the training end."""
    training_events = select_events_before(dataset.events, dataset.split.train_end)
    item_events = count_training_events(training_events, ranker.table.item_id_enum)
    clicked_rows, has_click = find_clicked_items(lists)
    means = {}
    for name, (least, most) in NEWNESS.items():
        num_events = item_events[clicked_rows]
        in_slice = has_click & (num_events >= least) & (num_events <= most)
        if in_slice.sum() >= _LEAST_LISTS:
            means[f"{name}_"] = average_measured(measured.ndcg[in_slice])
    return means


def _read_test_lists(
    training_file: Path, ranker: ExportedRanker, protocol: str, scratch: Path, activity: ItemActivity | None
) -> tuple[RankingLists, IntArray]:
    """The test lists of a protocol, and the user of each, counted from 0."""
    test_lists = encode_lists(
        training_file,
        ranker.table.item_id_enum,
        split=TEST,
        protocol=protocol,
        lengths=(ranker.spec.history_length, ranker.spec.inferred_length),
        scratch=scratch,
        activity=activity,
        search=ranker.history_search,
    )
    is_test_list = (pl.col("split") == TEST) & (pl.col("protocol") == protocol)
    user_number = pl.col("user_id").rank("dense").cast(pl.Int64) - 1
    numbered_users = pl.scan_parquet(training_file).filter(is_test_list).select(user_number).collect()
    return test_lists, numbered_users.to_series().to_numpy()


_NOTES = {"cold_ndcg10": " within cold items"} | {
    f"{name}_ndcg10": f", items with {least} to {most} training events"
    for name, (least, most) in NEWNESS.items()
}
"""Metric -> what its rows' data says of it."""


def make_trial_rows(
    benchmark: str,
    metrics_by_trial: Mapping[Trial, Mapping[str, float]],
    compared_rankers: Mapping[str, tuple[str, str]],
    note: str = "",
    metrics: Sequence[str] = METRICS,
) -> Iterator[Row]:
    """A row for each ranker, and rows for one ranker over another, seed by seed.

    Args:
        benchmark: the first word of the rows' ids.
        metrics_by_trial: what `run_trial_once` gave.
        compared_rankers: name of a comparison -> the ranker, and the one that it is compared with.
        note: what the rows' data says besides.
        metrics: those in which rankers are compared, as far as they were measured.
    """
    seeds_by_ranker: dict[tuple[str, str], list[int]] = {}
    for trial in metrics_by_trial:
        seeds_by_ranker.setdefault((trial.dataset, trial.ranker), []).append(trial.seed)
    data_note = f", test part, contemporaneous candidates{note}"
    for (dataset, ranker), seeds in seeds_by_ranker.items():
        values = [metrics_by_trial[Trial(dataset, ranker, seed)]["ndcg10"] for seed in seeds]
        row_id, data = f"{benchmark}.{dataset}.{ranker}.ndcg10", dataset + data_note
        yield make_row(row_id, values, unit="ndcg10", data=data, seeds=seeds)
    for dataset in dict.fromkeys(trial.dataset for trial in metrics_by_trial):
        for name, (ranker, other) in compared_rankers.items():
            other_seeds = seeds_by_ranker.get((dataset, other), [])
            seeds = [seed for seed in seeds_by_ranker.get((dataset, ranker), []) if seed in other_seeds]
            shared_metrics = [
                metric
                for metric in metrics
                if seeds and all(metric in metrics_by_trial[Trial(dataset, ranker, seed)] for seed in seeds)
            ]
            for metric in shared_metrics:
                pairs = [
                    [metrics_by_trial[Trial(dataset, one, seed)][metric] for one in (ranker, other)]
                    for seed in seeds
                ]
                ratios = [ours / theirs for ours, theirs in pairs]
                row_id = f"{benchmark}.{dataset}.{name}.{metric}_ratio"
                data = f"{dataset}{data_note}{_NOTES.get(metric, '')}"
                yield make_row(row_id, ratios, unit="ratio", data=data, seeds=seeds)
