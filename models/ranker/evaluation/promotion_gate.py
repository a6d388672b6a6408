"""The promotion gate: a stated rule, and the reasons for its answer."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from models.ranker.config import EvaluationConfig
from models.ranker.evaluation.paired_bootstrap import MetricComparison


class PromotionDecision(NamedTuple):
    """May the challenger go live?"""

    promote: bool
    reasons: list[str]
    """One sentence per condition, those that failed first."""


def decide_promotion(
    comparisons: Mapping[str, MetricComparison],
    *,
    ece: float,
    config: EvaluationConfig,
    notes: list[str],
    leaks: Sequence[str] = (),
) -> PromotionDecision:
    """Applies the rule.

    The challenger is promoted when three things hold on the test lists of `gate_protocol`:
    - the interval of its NDCG@10 gain over the baseline lies above `min_gain_over_baseline`;
    - the interval of its difference to the champion, if one can be compared, lies above minus
      `max_loss_to_champion`;
    - its click ECE, on lists of the kind it was trained on, is at most `max_ece`.

    Lists that can be won without knowing the user decide nothing: then it is not promoted, whatever it won.

    Args:
        comparisons: `baseline`, and `champion` where there is one.
        ece: the challenger's expected calibration error.
        config: the limits.
        notes: what else the reader must know; carried into the reasons.
        leaks: of `reference_scores.describe_leaks`.
    """
    limits = {"baseline": config.min_gain_over_baseline, "champion": -config.max_loss_to_champion}
    conditions = [
        (comparison.low > limits[role], _describe_condition(role, comparison, limits[role]))
        for role, comparison in comparisons.items()
    ]
    conditions.append((ece <= config.max_ece, f"click ECE {ece:.4f}, at most {config.max_ece:g} is allowed"))
    failures = [f"failed: {sentence}" for holds, sentence in conditions if not holds]
    successes = [f"passed: {sentence}" for holds, sentence in conditions if holds]
    undecided = [f"undecided: {sentence}" for sentence in leaks]
    return PromotionDecision(not failures and not undecided, [*undecided, *failures, *successes, *notes])


def overrule_gate(decision: PromotionDecision) -> PromotionDecision:
    """Promotes whatever the gate found; the reasons stay."""
    if decision.promote:
        return decision
    return PromotionDecision(True, ["overruled: evaluation.gate is `report`", *decision.reasons])


def decide_by_pages(
    comparisons: Mapping[str, Mapping[str, MetricComparison]],
    *,
    effective_lists: float,
    ece: float,
    config: EvaluationConfig,
    notes: list[str],
) -> PromotionDecision:
    """Applies the rule for logs that say what was shown.

    The challenger is promoted when, on the shown test lists:
    - the interval of its relative gain in clicks a page over the baseline lies above
      `min_gain_over_baseline`, and against the champion above minus `max_page_loss_to_champion`;
    - neither orders nor revenue a page are surely below those of the others;
    - its click ECE is at most `max_ece`;
    - the estimate's weights are worth `min_effective_lists` lists.

    An interval that holds the limit is no verdict on the ranker: the reason says that the log cannot decide,
    and what difference it could have seen.

    Args:
        comparisons: role -> outcome -> relative comparison.
        effective_lists: lists that the estimate's weights are worth.
        ece: the challenger's expected calibration error.
        config: the limits.
        notes: what else the reader must know; carried into the reasons.
    """
    limits = {"baseline": config.min_gain_over_baseline, "champion": -config.max_page_loss_to_champion}
    failures: list[str] = []
    undecided: list[str] = []
    successes: list[str] = []
    for role, by_outcome in comparisons.items():
        for outcome, comparison in by_outcome.items():
            sentence = (
                f"{outcome} a page {comparison.difference:+.1%} against the {role} "
                f"[{comparison.low:+.1%}, {comparison.high:+.1%}]"
            )
            if outcome != "clicks":
                (failures if comparison.high < 0 else successes).append(
                    f"{sentence}; must not surely be below 0"
                )
            elif comparison.low > limits[role]:
                successes.append(f"{sentence}; its interval must lie above {limits[role]:+.1%}")
            elif comparison.high <= limits[role]:
                failures.append(f"{sentence}; its interval must lie above {limits[role]:+.1%}")
            else:
                seen = (comparison.high - comparison.low) / 2
                undecided.append(
                    f"{sentence}; the log cannot decide: it would show a difference of {seen:.1%} from "
                    f"{limits[role]:+.1%}; give it more days, or explore more"
                )
    if effective_lists < config.min_effective_lists:
        undecided.append(
            f"the test pages are worth {effective_lists:.0f} of the challenger's own, at least "
            f"{config.min_effective_lists:g} are needed"
        )
    calibrated = f"click ECE {ece:.4f}, at most {config.max_ece:g} is allowed"
    (successes if ece <= config.max_ece else failures).append(calibrated)
    reasons = [
        *(f"failed: {sentence}" for sentence in failures),
        *(f"undecided: {sentence}" for sentence in undecided),
        *(f"passed: {sentence}" for sentence in successes),
        *notes,
    ]
    return PromotionDecision(not failures and not undecided, reasons)


def _describe_condition(role: str, comparison: MetricComparison, limit: float) -> str:
    return (
        f"NDCG@10 {comparison.ours:.4f} against the {role}'s {comparison.theirs:.4f}, "
        f"difference {comparison.difference:+.4f} [{comparison.low:+.4f}, {comparison.high:+.4f}]; "
        f"its interval must lie above {limit:+.4f}"
    )
