"""The evaluate_ranker step: challenger against baseline and champion on the test part, and the promotion decision."""

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.artifacts import Artifact, new_artifact, write_json, write_table, write_text
from contracts.dataset import before, read_dataset
from contracts.errors import UserError
from contracts.tables import EXPOSURES
from models.ranker.bootstrap import Comparison, compare
from models.ranker.card import write_card
from models.ranker.config import EvaluationConfig
from models.ranker.decision import Decision, decide
from models.ranker.lists import TEST
from models.ranker.measure import Measured, measure
from models.ranker.records import RankingRows
from models.ranker.reference import REFERENCE_FILE, reference_exposures
from models.ranker.reliability import Bin, reliability, reliability_svg
from models.ranker.report import write_report
from models.ranker.rows import encode_rows, read_vectors
from models.ranker.scoring import ExportedRanker, Scores
from models.ranker.slices import slice_lists, slice_means, training_events
from models.ranker.spec import RankerSpec
from models.ranker.statistics import ItemLog
from models.ranker.train import TRAINING_SET_FILE, training_protocol

RELIABILITY_FILE = "reliability.svg"


class EvaluationLists(NamedTuple):
    """The test lists of one protocol."""

    rows: dict[tuple[int, int, int], RankingRows]
    """By how a ranker reads (`RankerSpec.reading`)."""
    users: npt.NDArray[np.int64]
    """User of each list, counted from 0."""


Results = dict[str, dict[str, Measured]]
"""Role -> protocol -> what was measured."""


def evaluate_ranker(
    challenger: Path,
    baseline: Path,
    training_set: Path,
    dataset: Path,
    item_embeddings: Path,
    config: EvaluationConfig,
    *,
    champion: Path | None,
    out: Path,
) -> None:
    """Measures the exported graphs on every protocol's test lists.

    Writes metrics.json, report.md, decision.json, model_card.md and reliability.svg.

    A champion of another embedding space cannot be scored with these vectors: it is left out, and the decision says so.

    Raises:
        UserError: there is no test list, or a folder holds no ranker.
    """
    folders = {"challenger": challenger, "baseline": baseline} | ({"champion": champion} if champion else {})
    inputs = {**folders, "training_set": training_set, "dataset": dataset, "item_embeddings": item_embeddings}
    trained_on, gate = training_protocol(training_set / TRAINING_SET_FILE), config.gate_protocol
    rankers, notes = _open(folders, dataset, item_embeddings, config)
    with (
        tempfile.TemporaryDirectory() as scratch,
        new_artifact(out, kind="evaluation", inputs=inputs, config=config) as made,
    ):
        lists = _read_lists(training_set / TRAINING_SET_FILE, dataset, rankers, Path(scratch))
        if missing := {trained_on, gate} - lists.keys():
            raise UserError(
                f"{training_set} holds no test list of protocol '{missing.pop()}'; give a longer test part, or another "
                "evaluation.gate_protocol"
            )
        results: Results = {
            role: {name: _measure(ranker, found, config) for name, found in lists.items()}
            for role, ranker in rankers.items()
        }
        scores = _score(rankers["challenger"], lists[trained_on], config)
        version = rankers["challenger"].spec.version
        shown = reference_exposures(training_set / TRAINING_SET_FILE, trained_on, scores.score, model_version=version)
        write_table(made.path / REFERENCE_FILE, EXPOSURES, shown)
        comparisons = _compare(results, lists, config)
        ece = results["challenger"][trained_on].summary["ece"]
        decision = decide(comparisons, ece=ece, config=config, notes=notes)
        names = {role: ranker.spec.model_name for role, ranker in rankers.items()}
        slices = _slice(results, lists[gate], rankers, dataset, gate)
        bins = reliability(scores.click, np.asarray(_rows_of(rankers["challenger"], lists[trained_on]).clicks))
        _write(made, results, comparisons, decision, names=names, config=config, slices=slices, bins=bins)
        write_text(made.path / RELIABILITY_FILE, reliability_svg(bins, title=f"{names['challenger']}: clicks"))
        card = write_card(
            rankers["challenger"].spec,
            json.loads((challenger / "training.json").read_text(encoding="utf-8")),
            {protocol: found.summary for protocol, found in results["challenger"].items()},
            slices["challenger"],
            trained_on=trained_on,
            promoted=decision.promote,
        )
        write_text(made.path / "model_card.md", card)


def _open(
    folders: dict[str, Path], dataset: Path, item_embeddings: Path, config: EvaluationConfig
) -> tuple[dict[str, ExportedRanker], list[str]]:
    items = read_dataset(dataset).items
    vectors, space, _ = read_vectors(item_embeddings)
    notes = []
    specs = {role: RankerSpec.read(folder) for role, folder in folders.items()}
    if "champion" in specs and specs["champion"].space not in (None, space):
        notes.append(
            f"not compared: the champion reads vectors of space '{specs['champion'].space}', these are of '{space}'"
        )
        folders = {role: folder for role, folder in folders.items() if role != "champion"}
    rankers = {
        role: ExportedRanker(folder, items, vectors, space=space, num_threads=config.num_threads)
        for role, folder in folders.items()
    }
    return rankers, notes


def _read_lists(
    training_set: Path, dataset: Path, rankers: dict[str, ExportedRanker], scratch: Path
) -> dict[str, EvaluationLists]:
    specs = [ranker.spec for ranker in rankers.values()]
    inferred_length = max(spec.inferred_length for spec in specs)
    names = rankers["challenger"].table.names
    counted = any(spec.features.statistics for spec in specs)
    log = ItemLog.index(read_dataset(dataset).behaviors, names) if counted else None
    searches = {ranker.spec.reading: ranker.search for ranker in rankers.values()}
    lengths = {reading: max(spec.history_length for spec in specs if spec.reading == reading) for reading in searches}
    test = pl.scan_parquet(training_set).filter(pl.col("split") == TEST).select("protocol", "user_id").collect()
    lists = {}
    for protocol in sorted(test["protocol"].unique()):
        encode = partial(encode_rows, training_set, names, split=TEST, protocol=protocol, log=log)
        rows = {
            reading: encode(
                lengths=(lengths[reading], inferred_length),
                search=search,
                scratch=scratch / f"{protocol}-{'-'.join(map(str, reading))}",
            )
            for reading, search in searches.items()
        }
        users = test.filter(pl.col("protocol") == protocol)["user_id"].rank("dense").cast(pl.Int64) - 1
        lists[protocol] = EvaluationLists(rows, users.to_numpy())
    return lists


def _measure(ranker: ExportedRanker, lists: EvaluationLists, config: EvaluationConfig) -> Measured:
    return measure(_rows_of(ranker, lists), _score(ranker, lists, config), lists.users)


def _score(ranker: ExportedRanker, lists: EvaluationLists, config: EvaluationConfig) -> Scores:
    return ranker.score(_rows_of(ranker, lists), batch_size=config.batch_size)


def _rows_of(ranker: ExportedRanker, lists: EvaluationLists) -> RankingRows:
    return lists.rows[ranker.spec.reading]


def _slice(
    results: Results, lists: EvaluationLists, rankers: dict[str, ExportedRanker], dataset: Path, protocol: str
) -> dict[str, dict[str, dict[str, float]]]:
    """Role -> slice of the protocol's lists -> metric -> value."""
    data = read_dataset(dataset)
    table = rankers["challenger"].table
    counts = training_events(before(data.behaviors, data.split.train_end), table.names)
    slices = slice_lists(_rows_of(rankers["challenger"], lists), table, counts)
    return {role: slice_means(found[protocol].ndcg, slices) for role, found in results.items()}


def _compare(results: Results, lists: dict[str, EvaluationLists], config: EvaluationConfig) -> dict[str, Comparison]:
    gate = config.gate_protocol
    ours = results["challenger"][gate].ndcg
    return {
        role: compare(
            ours,
            found[gate].ndcg,
            lists[gate].users,
            num_bootstrap=config.num_bootstrap,
            confidence=config.confidence,
            seed=config.seed,
        )
        for role, found in results.items()
        if role != "challenger"
    }


def _write(
    made: Artifact,
    results: Results,
    comparisons: dict[str, Comparison],
    decision: Decision,
    *,
    names: dict[str, str],
    config: EvaluationConfig,
    slices: dict[str, dict[str, dict[str, float]]],
    bins: list[Bin],
) -> None:
    summaries = {role: {name: found.summary for name, found in by.items()} for role, by in results.items()}
    compared = {role: comparison._asdict() for role, comparison in comparisons.items()}
    metrics = {
        "gate_protocol": config.gate_protocol,
        "models": names,
        "rankers": summaries,
        "ndcg10_comparisons": compared,
        "slices": slices,
        "reliability": [found._asdict() for found in bins],
    }
    write_json(made.path / "metrics.json", metrics)
    write_json(made.path / "decision.json", decision._asdict())
    report = write_report(summaries, comparisons, decision, slices, names=names, config=config)
    write_text(made.path / "report.md", report)
    made.metrics |= {
        f"{role}.{protocol}.{name}": value
        for role, by_protocol in summaries.items()
        for protocol, values in by_protocol.items()
        for name, value in values.items()
    }
    made.metrics |= {f"ndcg10_ratio.{role}": comparison.ratio for role, comparison in comparisons.items()}
    made.metrics["promote"] = float(decision.promote)
    made.labels |= {"gate_protocol": config.gate_protocol, **names}
