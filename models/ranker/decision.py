"""The promotion gate: a stated rule, and the reasons for its answer."""

from collections.abc import Mapping
from typing import NamedTuple

from models.ranker.bootstrap import Comparison
from models.ranker.config import EvaluationConfig


class Decision(NamedTuple):
    """May the challenger go live?"""

    promote: bool
    reasons: list[str]
    """One sentence per condition, those that failed first."""


def decide(
    comparisons: Mapping[str, Comparison], *, ece: float, config: EvaluationConfig, notes: list[str]
) -> Decision:
    """Applies the rule.

    The challenger is promoted when, on the test lists of `gate_protocol`, the interval of its NDCG@10 gain over the
    baseline lies above `min_gain_over_baseline`, the interval of its difference to the champion (if there is one that
    can be compared) lies above minus `max_loss_to_champion`, and its click ECE, on lists of the kind it was trained on,
    is at most `max_ece`.

    Args:
        comparisons: `baseline`, and `champion` where there is one.
        ece: the challenger's expected calibration error.
        config: the limits.
        notes: what else the reader must know; carried into the reasons.
    """
    limits = {"baseline": config.min_gain_over_baseline, "champion": -config.max_loss_to_champion}
    checks = [(found.low > limits[role], _say(role, found, limits[role])) for role, found in comparisons.items()]
    checks.append((ece <= config.max_ece, f"click ECE {ece:.4f}, at most {config.max_ece:g} is allowed"))
    failed = [f"failed: {text}" for kept, text in checks if not kept]
    kept = [f"passed: {text}" for kept, text in checks if kept]
    return Decision(not failed, [*failed, *kept, *notes])


def _say(role: str, found: Comparison, limit: float) -> str:
    return (
        f"NDCG@10 {found.ours:.4f} against the {role}'s {found.theirs:.4f}, difference {found.difference:+.4f} "
        f"[{found.low:+.4f}, {found.high:+.4f}]; its interval must lie above {limit:+.4f}"
    )
