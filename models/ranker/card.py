"""The model card: what a ranker is, what it was trained on, how well it does, and for whom less well (Markdown).

After Mitchell et al., "Model cards for model reporting" (arXiv 1810.03993); every number comes from the run.
"""

from collections.abc import Mapping
from typing import Any

from models.ranker.report import COLUMNS
from models.ranker.spec import RankerSpec

Means = Mapping[str, Mapping[str, float]]
"""Slice -> metric -> value."""


def write_card(
    spec: RankerSpec,
    training: Mapping[str, Any],
    summaries: Mapping[str, Mapping[str, float]],
    slices: Means,
    *,
    trained_on: str,
    promoted: bool,
) -> str:
    """The card's text.

    Args:
        spec: the ranker.
        training: what its `training.json` tells.
        summaries: protocol -> metric -> value, on test lists.
        slices: of the gate's protocol.
        trained_on: label regime of the training lists.
        promoted: did the gate let it pass?
    """
    switches = spec.features.model_dump()
    on, off = ([name for name, used in switches.items() if used is state] for state in (True, False))
    lines = [
        f"# {spec.model_name}",
        "",
        f"Version `{spec.version}`, item vectors of space `{spec.space or 'none'}`. "
        f"The gate {'let it pass' if promoted else 'did not let it pass'}.",
        "",
        "## Use",
        "",
        "Sorts candidates for a user by how likely he clicks and orders them. It knows no stock, no margin and no rule "
        "of the shop. Not meant to decide on people (credit, work, insurance), nor for other catalogues than its own.",
        "",
        "## Training",
        "",
        f"- {training['training_lists']:,} lists of kind `{trained_on}`, {training['validation_lists']:,} for "
        f"validation; {training['parameters']:,} parameters; the best of {training['epochs']} epochs was "
        f"number {training['best_epoch']} (validation NDCG@10 {training['best_validation_ndcg10']:.4f}).",
        f"- Reads: {', '.join(on)}. Switched off: {', '.join(off) or 'nothing'}.",
        f"- {spec.history_length} behaviours and {spec.inferred_length} inferred behaviours per user"
        + (f", searched for among {spec.search_length:,}" if spec.search_length else "")
        + ".",
        "",
        "## Test lists",
        "",
        "| lists | number | " + " | ".join(COLUMNS.values()) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for protocol, found in summaries.items():
        cells = (f"{found[name]:.4f}" if name in found else "-" for name in COLUMNS)
        lines.append(f"| {protocol} | {found['lists']:,.0f} | {' | '.join(cells)} |")
    if trained_on != "impressions":
        lines += [
            "",
            "Its click probabilities are relative to sampled negatives, not to a page: no click-through rates.",
        ]
    lines += ["", "## Slices", "", "| slice | lists | NDCG@10 |", "|---|---|---|"]
    lines += [f"| {name} | {found['lists']:,.0f} | {found['ndcg10']:.4f} |" for name, found in slices.items()]
    lines += ["", "Reliability of the click probabilities: `reliability.svg`, `metrics.json`.", ""]
    return "\n".join(lines)
