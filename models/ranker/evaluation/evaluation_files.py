"""What an evaluation found, and the files that say it."""

from typing import NamedTuple

from contracts.artifacts import Artifact, write_json, write_text
from models.ranker.config import EvaluationConfig
from models.ranker.evaluation.evaluation_report import write_evaluation_report
from models.ranker.evaluation.list_counts import ListCounts
from models.ranker.evaluation.measure_ranker import MeasuredRanker
from models.ranker.evaluation.paired_bootstrap import MetricComparison
from models.ranker.evaluation.promotion_gate import PromotionDecision
from models.ranker.evaluation.reference_scores import ReferenceScores
from models.ranker.evaluation.reliability import ReliabilityBin, draw_reliability

RELIABILITY_FILE = "reliability.svg"

Results = dict[str, dict[str, MeasuredRanker]]
"""Role -> protocol -> what was measured."""
PageComparisons = dict[str, dict[str, MetricComparison]]
"""Role -> outcome -> the challenger against it, as a share of what it earns a page."""
SlicesByRole = dict[str, dict[str, dict[str, float]]]
"""Role -> slice of the protocol's lists -> metric -> value."""


class Evaluation(NamedTuple):
    """All that was measured of the rankers, and what follows."""

    results: Results
    comparisons: dict[str, MetricComparison]
    """Role -> NDCG@10 of the challenger against it, on the gate's lists."""
    decision: PromotionDecision
    names: dict[str, str]
    """Role -> model."""
    gate_protocol: str
    pages: PageComparisons
    slices: SlicesByRole
    bins: list[ReliabilityBin]
    """Of the challenger's click probabilities."""
    references: dict[str, ReferenceScores]
    """Protocol -> what scores without a model did on its lists."""
    counts: dict[str, ListCounts]
    """Protocol -> its lists."""


def write_evaluation(artifact: Artifact, evaluation: Evaluation, config: EvaluationConfig) -> None:
    """Writes metrics.json, decision.json, report.md and the plot; sets the artifact's metrics and labels."""
    summaries = {
        role: {protocol: measured.summary for protocol, measured in by_protocol.items()}
        for role, by_protocol in evaluation.results.items()
    }
    write_json(artifact.path / "metrics.json", {"rankers": summaries, **_collect_figures(evaluation)})
    write_json(artifact.path / "decision.json", evaluation.decision._asdict())
    report = write_evaluation_report(
        summaries,
        evaluation.comparisons,
        evaluation.decision,
        evaluation.slices,
        references=evaluation.references,
        counts=evaluation.counts,
        names=evaluation.names,
        gate_protocol=evaluation.gate_protocol,
        pages=evaluation.pages,
        config=config,
    )
    write_text(artifact.path / "report.md", report)
    plot = draw_reliability(evaluation.bins, title=f"{evaluation.names['challenger']}: clicks")
    write_text(artifact.path / RELIABILITY_FILE, plot)
    artifact.metrics |= {
        f"{role}.{protocol}.{name}": value
        for role, by_protocol in summaries.items()
        for protocol, values in by_protocol.items()
        for name, value in values.items()
    }
    artifact.metrics |= _flatten_comparisons(evaluation)
    artifact.labels |= {"gate_protocol": evaluation.gate_protocol, **evaluation.names}


def _collect_figures(evaluation: Evaluation) -> dict[str, object]:
    """What metrics.json holds beside the summary of each ranker."""
    return {
        "gate_protocol": evaluation.gate_protocol,
        "page_comparisons": {
            role: {outcome: comparison._asdict() for outcome, comparison in by_outcome.items()}
            for role, by_outcome in evaluation.pages.items()
        },
        "models": evaluation.names,
        "ndcg10_comparisons": {
            role: comparison._asdict() for role, comparison in evaluation.comparisons.items()
        },
        "slices": evaluation.slices,
        "references": {
            protocol: reference.summaries for protocol, reference in evaluation.references.items()
        },
        "references_from_chance": {
            protocol: {name: comparison._asdict() for name, comparison in reference.from_chance.items()}
            for protocol, reference in evaluation.references.items()
        },
        "list_counts": {
            protocol: list_counts._asdict() for protocol, list_counts in evaluation.counts.items()
        },
        "reliability": [reliability_bin._asdict() for reliability_bin in evaluation.bins],
    }


def _flatten_comparisons(evaluation: Evaluation) -> dict[str, float]:
    """The artifact's metrics that compare the challenger, and those of scores without a model."""
    reference_metrics = {
        f"reference.{name.replace(' ', '_')}.{protocol}.ndcg10": metrics["ndcg10"]
        for protocol, reference in evaluation.references.items()
        for name, metrics in reference.summaries.items()
        if "ndcg10" in metrics
    }
    ratios = {f"ndcg10_ratio.{role}": comparison.ratio for role, comparison in evaluation.comparisons.items()}
    page_gains = {
        f"page_gain.{role}.{outcome}": comparison.difference
        for role, by_outcome in evaluation.pages.items()
        for outcome, comparison in by_outcome.items()
    }
    return {**reference_metrics, **ratios, **page_gains, "promote": float(evaluation.decision.promote)}
