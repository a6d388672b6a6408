"""The model card (Markdown): what a ranker is, its training, how well it does, and for whom less well.

After Mitchell et al., "Model cards for model reporting" (arXiv 1810.03993); every number comes from the run.
"""

from collections.abc import Mapping
from typing import Any

from models.ranker.evaluation.evaluation_report import COLUMNS, render_number, render_table
from models.ranker.inputs.ranker_spec import RankerSpec

SliceMetrics = Mapping[str, Mapping[str, float]]
"""Slice -> metric -> value."""


def write_model_card(
    spec: RankerSpec,
    training: Mapping[str, Any],
    summaries: Mapping[str, Mapping[str, float]],
    slices: SliceMetrics,
    references: Mapping[str, Mapping[str, float]],
    *,
    gate_protocol: str,
    trained_on: str,
    promoted: bool,
) -> str:
    """The card's text.

    Args:
        spec: the ranker.
        training: what its `training.json` tells.
        summaries: protocol -> metric -> value, on test lists.
        slices: of the gate's protocol.
        references: scores without a model on the gate's lists -> metric -> value.
        gate_protocol: the lists that the gate decides on.
        trained_on: label regime of the training lists.
        promoted: did the gate let it pass?
    """
    switches = spec.features.model_dump()
    switched_on, switched_off = (
        [name for name, is_on in switches.items() if is_on is state] for state in (True, False)
    )
    protocol_rows = [
        (protocol, f"{metrics['lists']:,.0f}", *(render_number(metrics.get(name)) for name in COLUMNS))
        for protocol, metrics in summaries.items()
    ]
    reference_rows = [
        (name, render_number(metrics.get("auc")), render_number(metrics.get("ndcg10")))
        for name, metrics in references.items()
    ]
    lines = [
        f"# {spec.model_name}",
        "",
        f"Version `{spec.version}`, item vectors of space `{spec.space or 'none'}`. "
        f"The gate {'let it pass' if promoted else 'did not let it pass'}.",
        "",
        "## Use",
        "",
        "Sorts candidates for a user by how likely they click and order them. It knows no stock, no margin "
        "and no rule of the shop. Not meant to decide on people (credit, work, insurance), nor for other "
        "catalogues than its own.",
        "",
        "## Training",
        "",
        f"- {training['training_lists']:,} lists of kind `{trained_on}`, {training['validation_lists']:,} "
        f"for validation; {training['parameters']:,} parameters; the best of {training['epochs']} epochs was "
        f"number {training['best_epoch']} (validation score {training['best_validation_score']:.4f}: "
        f"{'minus log loss of clicks' if trained_on == 'impressions' else 'NDCG@10'}).",
        f"- Reads: {', '.join(switched_on)}. Switched off: {', '.join(switched_off) or 'nothing'}.",
        f"- {spec.history_length} behaviors and {spec.inferred_length} inferred behaviors per user"
        + (f", searched for among {spec.search_length:,}" if spec.search_length else "")
        + ".",
        "",
        "## Test lists",
        "",
        *render_table(["lists", "number", *COLUMNS.values()], protocol_rows),
        f"Scores without a model, on the {gate_protocol} lists:",
        "",
        *render_table(["score", "AUC", "NDCG@10"], reference_rows),
    ]
    if trained_on != "impressions":
        lines += [
            "Its click probabilities are relative to sampled negatives, not to a page: "
            "no click-through rates.",
            "",
        ]
    slice_rows = [
        (name, f"{metrics['lists']:,.0f}", f"{metrics['ndcg10']:.4f}") for name, metrics in slices.items()
    ]
    lines += ["## Slices", "", *render_table(["slice", "lists", "NDCG@10"], slice_rows)]
    lines += ["Reliability of the click probabilities: `reliability.svg`, `metrics.json`.", ""]
    return "\n".join(lines)
