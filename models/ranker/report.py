"""The evaluation in words and tables (Markdown)."""

from collections.abc import Mapping

from models.ranker.bootstrap import Comparison
from models.ranker.config import EvaluationConfig
from models.ranker.decision import Decision

COLUMNS = {
    "auc": "AUC",
    "gauc": "GAUC",
    "ndcg10": "NDCG@10",
    "hr10": "HR@10",
    "log_loss": "log loss",
    "ece": "ECE",
    "order_auc": "order AUC",
}
_PROTOCOLS = {
    "impressions": "what was shown, with its clicks and orders",
    "contemporaneous": "the user's next behaviour against items that others turned to at the same time",
    "within_cold": "the same among items with few training events only",
    "within_unseen": "the same among items without any training event",
}

Summaries = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Role (challenger, baseline, champion) -> protocol -> metric -> value."""


def write_report(
    summaries: Summaries,
    comparisons: Mapping[str, Comparison],
    decision: Decision,
    slices: Summaries,
    *,
    names: Mapping[str, str],
    config: EvaluationConfig,
) -> str:
    """The report's text.

    Args:
        summaries: the metrics.
        comparisons: the challenger against the others, on NDCG@10 of the gate's protocol.
        decision: what the gate said.
        slices: role -> slice of the gate's lists -> metric -> value.
        names: role -> model name.
        config: the gate's protocol and the level of the intervals.
    """
    lines = ["# Evaluation of a ranker", "", f"**{'Promote' if decision.promote else 'Do not promote'}.**", ""]
    lines += [f"- {reason}" for reason in decision.reasons]
    lines += ["", "Models: " + ", ".join(f"{role} `{name}`" for role, name in names.items()) + ".", ""]
    for protocol in summaries["challenger"]:
        lines += _table(summaries, protocol, decides=protocol == config.gate_protocol)
    lines += _comparison_table(comparisons, config)
    lines += _slice_table(slices, config)
    lines += ["## Reliability", "", "![predicted against observed click probabilities](reliability.svg)", ""]
    return "\n".join(lines)


def _table(summaries: Summaries, protocol: str, *, decides: bool) -> list[str]:
    count = int(summaries["challenger"][protocol]["lists"])
    title = f"## {protocol}{' (decides)' if decides else ''}"
    head = ["", f"{count:,} test lists: {_PROTOCOLS.get(protocol, 'see the lists step')}.", ""]
    header = "| model | " + " | ".join(COLUMNS.values()) + " |"
    rule = "|---|" + "---|" * len(COLUMNS)
    rows = [
        f"| {role} | " + " | ".join(_cell(by_protocol[protocol].get(name)) for name in COLUMNS) + " |"
        for role, by_protocol in summaries.items()
    ]
    return [title, *head, header, rule, *rows, ""]


def _comparison_table(comparisons: Mapping[str, Comparison], config: EvaluationConfig) -> list[str]:
    head = [
        f"## Challenger against the others (NDCG@10, {config.gate_protocol})",
        "",
        f"Paired bootstrap over users, {config.num_bootstrap} resamples, {config.confidence:.0%} intervals.",
        "",
        "| against | challenger | other | difference | interval | ratio |",
        "|---|---|---|---|---|---|",
    ]
    rows = [
        f"| {role} | {c.ours:.4f} | {c.theirs:.4f} | {c.difference:+.4f} | [{c.low:+.4f}, {c.high:+.4f}] "
        f"| {c.ratio:.3f} |"
        for role, c in comparisons.items()
    ]
    return [*head, *rows, ""]


def _slice_table(slices: Summaries, config: EvaluationConfig) -> list[str]:
    head = [
        f"## Slices (NDCG@10, {config.gate_protocol})",
        "",
        "| slice | lists | " + " | ".join(slices) + " |",
        "|---|---|" + "---|" * len(slices),
    ]
    rows = [
        f"| {name} | {found['lists']:,.0f} | "
        + " | ".join(_cell(by_slice.get(name, {}).get("ndcg10")) for by_slice in slices.values())
        + " |"
        for name, found in slices["challenger"].items()
    ]
    return [*head, *rows, ""]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
