"""The evaluate_ranker step: challenger against baseline and champion, and the promotion decision."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from contracts.array_types import DoubleArray, IntArray
from contracts.artifacts import create_artifact, write_table, write_text
from contracts.dataset import read_dataset, select_events_before
from contracts.errors import UserError
from contracts.tables import EXPOSURES
from models.ranker.config import EvaluationConfig
from models.ranker.evaluation.counterfactual_value import (
    PageValues,
    estimate_page_values,
    expect_outcomes,
)
from models.ranker.evaluation.drift_reference import REFERENCE_FILE, make_reference_exposures
from models.ranker.evaluation.evaluation_files import (
    Evaluation,
    PageComparisons,
    Results,
    SlicesByRole,
    write_evaluation,
)
from models.ranker.evaluation.examination import estimate_examination
from models.ranker.evaluation.exported_ranker import ExportedRanker
from models.ranker.evaluation.held_out_lists import ProtocolLists, Rankers, encode_test_lists
from models.ranker.evaluation.list_counts import read_list_counts
from models.ranker.evaluation.list_slices import average_slices, count_training_events, slice_lists
from models.ranker.evaluation.measure_ranker import MeasuredRanker, measure_ranker
from models.ranker.evaluation.model_card import write_model_card
from models.ranker.evaluation.paired_bootstrap import (
    MetricComparison,
    compare_rankers,
    widen_by_seed_noise,
)
from models.ranker.evaluation.promotion_gate import (
    decide_by_pages,
    decide_promotion,
    overrule_gate,
)
from models.ranker.evaluation.reference_scores import (
    ReferenceScores,
    describe_leaks,
    fit_ease,
    measure_references,
)
from models.ranker.evaluation.reliability import measure_reliability
from models.ranker.inputs.ranker_spec import RankerSpec
from models.ranker.lists.encode_catalogue import read_item_vectors
from models.ranker.lists.encode_lists import TRAINING_SET_FILE
from models.ranker.lists.item_statistics import ItemActivity
from models.ranker.training.train_ranker import read_training_protocol


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

    Writes metrics.json, report.md, decision.json, model_card.md, reliability.svg and reference.parquet.

    A champion of another embedding space cannot be scored with these vectors. It is left out, and the
    decision says so.

    Raises:
        UserError: there is no test list, or a folder holds no ranker.
    """
    folders = {"challenger": challenger, "baseline": baseline} | ({"champion": champion} if champion else {})
    inputs = {**folders, "training_set": training_set, "dataset": dataset, "item_embeddings": item_embeddings}
    lists_file = training_set / TRAINING_SET_FILE
    training_protocol = read_training_protocol(lists_file)
    gate_protocol = training_protocol if config.gate_protocol == "auto" else config.gate_protocol
    rankers, notes = _open_rankers(folders, dataset, item_embeddings, config)
    our_ranker = rankers["challenger"]
    with (
        tempfile.TemporaryDirectory() as scratch,
        create_artifact(out, kind="evaluation", inputs=inputs, config=config) as artifact,
    ):
        lists = encode_test_lists(lists_file, dataset, rankers, Path(scratch))
        if missing_protocols := {training_protocol, gate_protocol} - lists.keys():
            raise UserError(
                f"{training_set} holds no test list of protocol '{missing_protocols.pop()}'; give a "
                "longer test part, or another evaluation.gate_protocol"
            )
        results: Results = {
            role: {protocol: _measure_on_lists(ranker, test) for protocol, test in lists.items()}
            for role, ranker in rankers.items()
        }
        references = _measure_references(lists, our_ranker, dataset, config)
        comparisons = _compare_challenger(results, lists[gate_protocol], config, gate_protocol)
        ece = results["challenger"][training_protocol].summary["ece"]
        pages: PageComparisons = {}
        if gate_protocol == "impressions":
            page_values = estimate_values_of_rankers(
                rankers, lists[gate_protocol], estimate_examination(lists_file), config.pool_factor
            )
            pages = _compare_pages(page_values, lists[gate_protocol].users, config)
            effective_lists = page_values["challenger"].effective_lists
            decision = decide_by_pages(
                pages, effective_lists=effective_lists, ece=ece, config=config, notes=notes
            )
        else:
            leaks = describe_leaks(references[gate_protocol].from_chance)
            decision = decide_promotion(comparisons, ece=ece, config=config, notes=notes, leaks=leaks)
        if config.gate == "report":
            decision = overrule_gate(decision)
        training_lists = lists[training_protocol].select_for(our_ranker)
        # Calibration is judged on the regime that was trained, whatever the gate compares on.
        scores = our_ranker.score_lists(training_lists)
        evaluation = Evaluation(
            results,
            comparisons,
            decision,
            names={role: ranker.spec.model_name for role, ranker in rankers.items()},
            gate_protocol=gate_protocol,
            pages=pages,
            slices=_measure_slices(results, lists[gate_protocol], our_ranker, dataset, gate_protocol),
            bins=measure_reliability(scores.click, np.asarray(training_lists.clicks)),
            references=references,
            counts=read_list_counts(training_set),
        )
        write_evaluation(artifact, evaluation, config)
        exposures = make_reference_exposures(
            lists_file, training_protocol, scores.score, model_version=our_ranker.spec.version
        )
        write_table(artifact.path / REFERENCE_FILE, EXPOSURES, exposures)
        card = write_model_card(
            our_ranker.spec,
            json.loads((challenger / "training.json").read_text(encoding="utf-8")),
            {protocol: measured.summary for protocol, measured in results["challenger"].items()},
            evaluation.slices["challenger"],
            references[gate_protocol].summaries,
            gate_protocol=gate_protocol,
            trained_on=training_protocol,
            promoted=decision.promote,
        )
        write_text(artifact.path / "model_card.md", card)


def _open_rankers(
    folders: dict[str, Path], dataset: Path, item_embeddings: Path, config: EvaluationConfig
) -> tuple[Rankers, list[str]]:
    """The rankers that can be scored, and why another cannot."""
    items = read_dataset(dataset).items
    vectors, space, _ = read_item_vectors(item_embeddings)
    notes = []
    specs = {role: RankerSpec.read(folder) for role, folder in folders.items()}
    if "champion" in specs and specs["champion"].space not in (None, space):
        champion_space = specs["champion"].space
        notes.append(
            f"not compared: the champion reads vectors of space '{champion_space}', these are of '{space}'"
        )
        folders = {role: folder for role, folder in folders.items() if role != "champion"}
    rankers = {
        role: ExportedRanker(folder, items, vectors, space=space, num_threads=config.num_threads)
        for role, folder in folders.items()
    }
    return rankers, notes


def _measure_on_lists(ranker: ExportedRanker, test: ProtocolLists) -> MeasuredRanker:
    lists = test.select_for(ranker)
    return measure_ranker(lists, ranker.score_lists(lists), test.users, full_size=test.full_size)


def _measure_references(
    lists: dict[str, ProtocolLists], our_ranker: ExportedRanker, dataset: Path, config: EvaluationConfig
) -> dict[str, ReferenceScores]:
    """Protocol -> what scores without a model did on its lists."""
    data, item_id_enum = read_dataset(dataset), our_ranker.table.item_id_enum
    activity = ItemActivity.index_behaviors(data.behaviors, item_id_enum)
    ease = fit_ease(select_events_before(data.behaviors, data.split.train_end), item_id_enum)
    return {
        protocol: measure_references(
            test.select_for(our_ranker),
            test.users,
            activity,
            ease,
            full_size=test.full_size,
            num_bootstrap=config.num_bootstrap,
        )
        for protocol, test in lists.items()
    }


def _measure_slices(
    results: Results, test: ProtocolLists, our_ranker: ExportedRanker, dataset: Path, protocol: str
) -> SlicesByRole:
    data = read_dataset(dataset)
    training_behaviors = select_events_before(data.behaviors, data.split.train_end)
    item_events = count_training_events(training_behaviors, our_ranker.table.item_id_enum)
    slices = slice_lists(test.select_for(our_ranker), our_ranker.table, item_events)
    return {role: average_slices(measured[protocol].ndcg, slices) for role, measured in results.items()}


def estimate_values_of_rankers(
    rankers: Rankers, test: ProtocolLists, examination: DoubleArray, pool_factor: float
) -> dict[str, PageValues]:
    """Role -> what the shown pages would have earned in its order; the baseline says what to expect."""
    baseline = rankers["baseline"]
    baseline_lists = test.select_for(baseline)
    expected = expect_outcomes(baseline_lists, baseline.score_lists(baseline_lists), examination)
    return {
        role: estimate_page_values(
            test.select_for(ranker),
            ranker.score_lists(test.select_for(ranker)).score,
            examination,
            expected,
            pool_factor=pool_factor,
        )
        for role, ranker in rankers.items()
    }


def _compare_pages(
    values: Mapping[str, PageValues], users: IntArray, config: EvaluationConfig
) -> PageComparisons:
    """Role -> outcome -> the challenger against it, relative to it."""
    comparisons: PageComparisons = {}
    for role, page_values in values.items():
        if role == "challenger":
            continue
        comparisons[role] = {}
        for outcome, theirs in page_values.estimates.items():
            usual = float(theirs.mean())
            if usual <= 0:
                continue
            ours = values["challenger"].estimates[outcome]
            comparisons[role][outcome] = compare_rankers(
                ours / usual, theirs / usual, users, num_bootstrap=config.num_bootstrap
            )
    return comparisons


def _compare_challenger(
    results: Results, test: ProtocolLists, config: EvaluationConfig, protocol: str
) -> dict[str, MetricComparison]:
    """Role -> the challenger against it, on the gate's lists."""
    ours = results["challenger"][protocol].ndcg
    comparisons = {}
    for role, measured in results.items():
        if role == "challenger":
            continue
        theirs = measured[protocol].ndcg
        comparison = compare_rankers(ours, theirs, test.users, num_bootstrap=config.num_bootstrap)
        # The same weights had the same luck.
        is_same = np.array_equal(ours, theirs, equal_nan=True)
        comparisons[role] = comparison if is_same else widen_by_seed_noise(comparison, config.seed_noise)
    return comparisons
