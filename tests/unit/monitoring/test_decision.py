import json
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import UserError
from monitoring.config import MonitoringConfig
from monitoring.decision_rule import Decision, decide_by_lift_and_drift

CONFIG = MonitoringConfig()
GOOD, BAD, WIDE = (0.05, 0.02, 0.08), (-0.05, -0.08, -0.02), (0.02, -0.3, 0.4)
Bounds = tuple[float | None, float | None, float | None]


def decision(
    folder: Path, *, drifted: bool = False, srm: bool = False, users: int = 500, **arms: dict[str, Bounds]
) -> Decision:
    rows = [
        {"arm": arm, "metric": metric, "relative": dict(zip(("value", "low", "high"), bounds, strict=True))}
        for arm, lifts in arms.items()
        for metric, bounds in lifts.items()
    ]
    lift: dict[str, Any] = {
        "traffic": "simulated traffic",
        "control": "control",
        "srm": {"p_value": 0.5, "mismatch": srm, "users": dict.fromkeys(("control", *arms), users)},
        "rows": rows,
    }
    columns = ["score"] if drifted else []
    drift = {"drifted": drifted, "drifted_columns": columns, "embedding_drifted": False, "embedding_auc": 0.5}
    (folder / "lift.json").write_text(json.dumps(lift))
    (folder / "drift.json").write_text(json.dumps(drift))
    return decide_by_lift_and_drift(folder / "drift.json", folder / "lift.json", CONFIG)


def lifts(ctr: Bounds, orders: Bounds, gmv: Bounds) -> dict[str, Bounds]:
    return {"ctr": ctr, "orders_per_user": orders, "gmv_per_user": gmv}


def test_a_sure_gain_with_safe_guardrails_is_promoted(tmp_path: Path) -> None:
    verdict = decision(tmp_path, reaseq=lifts(GOOD, GOOD, (0.0, -0.05, 0.05)))
    assert (verdict.action, verdict.arm, verdict.retrain) == ("promote", "reaseq", False)
    assert verdict.traffic == "simulated traffic"


def test_a_sure_loss_is_rolled_back(tmp_path: Path) -> None:
    assert decision(tmp_path, b=lifts(BAD, GOOD, GOOD)).action == "rollback"
    verdict = decision(tmp_path, b=lifts(GOOD, (-0.3, -0.4, -0.2), GOOD))
    assert verdict.action == "rollback"
    assert verdict.reasons == ["b: orders_per_user -30.0% [-40.0%, -20.0%] is surely below -10%."]


@pytest.mark.parametrize("bounds", [WIDE, (None, None, None), (-1.0, None, None)])
def test_doubt_holds(tmp_path: Path, bounds: Bounds) -> None:
    assert decision(tmp_path, b=lifts(bounds, GOOD, GOOD)).action == "hold"
    assert decision(tmp_path, b=lifts(GOOD, bounds, GOOD)).action == "hold"


def test_a_sample_ratio_mismatch_holds_whatever_the_lift(tmp_path: Path) -> None:
    for lift in (GOOD, BAD):
        verdict = decision(tmp_path, srm=True, b=lifts(lift, lift, lift))
        assert verdict.action == "hold"
        assert "Sample-ratio mismatch" in verdict.reasons[0]


def test_few_users_and_no_challenger_hold(tmp_path: Path) -> None:
    assert "Too few users" in decision(tmp_path, users=20, b=lifts(GOOD, GOOD, GOOD)).reasons[0]
    assert "no challenger" in decision(tmp_path).reasons[0]


def test_the_better_of_two_arms_is_promoted(tmp_path: Path) -> None:
    verdict = decision(tmp_path, b=lifts(GOOD, GOOD, GOOD), c=lifts((0.2, 0.1, 0.3), GOOD, GOOD))
    assert verdict.arm == "c"


def test_drift_asks_for_retraining_and_leaves_the_action(tmp_path: Path) -> None:
    verdict = decision(tmp_path, drifted=True, b=lifts(GOOD, GOOD, GOOD))
    assert (verdict.action, verdict.retrain) == ("promote", True)
    assert verdict.reasons[-1] == "Inputs have drifted (score): retrain."


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="not a report"):
        decide_by_lift_and_drift(tmp_path / "x.json", tmp_path / "x.json", CONFIG)
