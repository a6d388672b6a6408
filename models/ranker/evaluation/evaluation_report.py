"""The evaluation in words and tables (Markdown)."""

from collections.abc import Iterable, Mapping, Sequence

from models.ranker.config import EvaluationConfig
from models.ranker.evaluation.list_counts import REASONS, ListCounts, describe_list_counts
from models.ranker.evaluation.paired_bootstrap import CONFIDENCE, MetricComparison
from models.ranker.evaluation.promotion_gate import PromotionDecision
from models.ranker.evaluation.reference_scores import ReferenceScores

COLUMNS = {
    "auc": "AUC",
    "gauc": "GAUC",
    "ndcg10": "NDCG@10",
    "hr10": "HR@10",
    "log_loss": "log loss",
    "ece": "ECE",
    "order_auc": "order AUC",
}
_PROTOCOL_MEANINGS = {
    "impressions": "what was shown, with its clicks and orders",
    "contemporaneous": "the user's next behavior against items that others turned to at the same time",
    "within_cold": "the same among items with few training events only",
    "within_unseen": "the same among items without any training event",
}

Summaries = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Role (challenger, baseline, champion) -> protocol -> metric -> value."""


def write_evaluation_report(
    summaries: Summaries,
    comparisons: Mapping[str, MetricComparison],
    decision: PromotionDecision,
    slices: Summaries,
    *,
    references: Mapping[str, ReferenceScores],
    counts: Mapping[str, ListCounts],
    names: Mapping[str, str],
    gate_protocol: str,
    pages: Mapping[str, Mapping[str, MetricComparison]],
    config: EvaluationConfig,
) -> str:
    """The report's text.

    Args:
        summaries: the metrics.
        comparisons: the challenger against the others, on NDCG@10 of the gate's protocol.
        decision: what the gate said.
        slices: role -> slice of the gate's lists -> metric -> value.
        references: protocol -> what scores without a model did.
        counts: sampled protocol -> how its lists came about; empty where that is not known.
        names: role -> model name.
        gate_protocol: the lists that decide.
        pages: role -> outcome -> relative comparison of what the shown pages would have earned.
        config: number of resamples.
    """
    lines = [
        "# Evaluation of a ranker",
        "",
        f"**{'Promote' if decision.promote else 'Do not promote'}.**",
        "",
    ]
    lines += [f"- {reason}" for reason in decision.reasons]
    lines += ["", "Models: " + ", ".join(f"{role} `{name}`" for role, name in names.items()) + ".", ""]
    for protocol in summaries["challenger"]:
        lines += _render_protocol_table(
            summaries, references[protocol], protocol, decides=protocol == gate_protocol
        )
        if protocol in counts:
            lines += [f"{describe_list_counts(counts[protocol])}.", ""]
    if counts:
        lines += _render_reasons(counts)
    if pages:
        lines += _render_page_table(pages, config)
    lines += _render_comparison_table(comparisons, gate_protocol, config)
    lines += _render_slice_table(slices, gate_protocol)
    lines += ["## Reliability", "", "![predicted against observed click probabilities](reliability.svg)", ""]
    return "\n".join(lines)


def _render_protocol_table(
    summaries: Summaries, references: ReferenceScores, protocol: str, *, decides: bool
) -> list[str]:
    num_lists = int(summaries["challenger"][protocol]["lists"])
    meaning = _PROTOCOL_MEANINGS.get(protocol, "see the lists step")
    rows = [
        (role, *(render_number(by_protocol[protocol].get(name)) for name in COLUMNS))
        for role, by_protocol in summaries.items()
    ]
    rows += [
        (name, *(render_number(metrics.get(column)) for column in COLUMNS))
        for name, metrics in references.summaries.items()
    ]
    title = f"## {protocol}{' (decides)' if decides else ''}"
    return [
        title,
        "",
        f"{num_lists:,} test lists: {meaning}.",
        "",
        *render_table(["model", *COLUMNS.values()], rows),
        *(line for note in references.notes for line in (f"Not measured: {note}.", "")),
    ]


def _render_reasons(counts: Mapping[str, ListCounts]) -> list[str]:
    """What the reasons mean for which events became no list."""
    occurring = [reason for reason in REASONS if any(reason in listed.skipped for listed in counts.values())]
    return [
        "Lists with fewer candidates than the longest are measured as if they had as many "
        "(`ranking_metrics.py`).",
        "",
        *(f"- {reason}: {REASONS[reason]}" for reason in occurring),
        "",
    ]


def _render_comparison_table(
    comparisons: Mapping[str, MetricComparison], gate_protocol: str, config: EvaluationConfig
) -> list[str]:
    rows = [
        (
            role,
            render_number(c.ours),
            render_number(c.theirs),
            f"{c.difference:+.4f}",
            f"[{c.low:+.4f}, {c.high:+.4f}]",
            f"{c.ratio:.3f}",
        )
        for role, c in comparisons.items()
    ]
    return [
        f"## Challenger against the others (NDCG@10, {gate_protocol})",
        "",
        f"Paired bootstrap over users, {config.num_bootstrap} resamples, {CONFIDENCE:.0%} intervals. They "
        f"are widened by the luck of the training seeds: {config.seed_noise:.1%} of each ranker's NDCG@10 "
        "(standard deviation, `evaluation.seed_noise`).",
        "",
        *render_table(["against", "challenger", "other", "difference", "interval", "ratio"], rows),
    ]


def _render_page_table(
    pages: Mapping[str, Mapping[str, MetricComparison]], config: EvaluationConfig
) -> list[str]:
    rows = [
        (role, outcome, f"{c.difference:+.1%}", f"[{c.low:+.1%}, {c.high:+.1%}]")
        for role, by_outcome in pages.items()
        for outcome, c in by_outcome.items()
    ]
    return [
        "## What the shown pages would have earned in the challenger's order (decides)",
        "",
        "Doubly robust estimate from the log: places are weighed by examination, and the baseline says what "
        f"is to be expected. Pools are {config.pool_factor:g} times as large as pages.",
        "",
        *render_table(["against", "a page", "difference", "interval"], rows),
    ]


def _render_slice_table(slices: Summaries, gate_protocol: str) -> list[str]:
    rows = []
    for name, metrics in slices["challenger"].items():
        cells = (render_number(by_slice.get(name, {}).get("ndcg10")) for by_slice in slices.values())
        rows.append((name, f"{metrics['lists']:,.0f}", *cells))
    title = f"## Slices (NDCG@10, {gate_protocol})"
    return [title, "", *render_table(["slice", "lists", *slices], rows)]


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, with an empty one behind."""
    rule = "|---|" + "---|" * (len(header) - 1)
    return [f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(row)} |" for row in rows), ""]


def render_number(value: float | None) -> str:
    """Four digits, or a dash for what was not measured."""
    return "-" if value is None else f"{value:.4f}"
