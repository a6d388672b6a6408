"""Fits on validation lists what the trained network lacks: fusion, calibration and the scale of revenues."""

import numpy as np
import torch

from contracts.array_types import BoolArray, FloatArray
from models.ranker.lists.mapped_lists import RankingLists
from models.ranker.network.confidence_fusion import Opinions, fit_fusion, stack_opinions
from models.ranker.network.ranker_network import Ranker
from models.ranker.network.score_tower import compute_order_logit
from models.ranker.training.list_batches import CatalogueTensors
from models.ranker.training.ranker_trainer import MAX_VALIDATION_LISTS, pick_spread_rows, score_lists

_MAX_FUSED_LISTS = 10_000
_NEWTON_STEPS = 30
_RIDGE = 1e-6


def fit_confidence_fusion(
    network: Ranker, catalogue: CatalogueTensors, lists: RankingLists, *, seed: int
) -> float:
    """Fits the weight of the behavior model's confidence; returns the relative gain of NDCG@10."""
    assert network.fusion is not None
    if not len(lists):
        return 0.0
    opinions = (
        Opinions(logits.click, batch.inputs["candidate_confidences"], batch.mask_BC, batch.clicks_BC)
        for batch, logits in score_lists(
            network, catalogue, lists, pick_spread_rows(len(lists), _MAX_FUSED_LISTS)
        )
    )
    return fit_fusion(network.fusion, stack_opinions(opinions), seed=seed)


def calibrate_heads(network: Ranker, catalogue: CatalogueTensors, lists: RankingLists) -> None:
    """Fits the affine calibration of the click's and the order's logit."""
    if not len(lists):
        return
    click_logits, click_labels, order_logits, order_labels = [], [], [], []
    for batch, logits in score_lists(
        network, catalogue, lists, pick_spread_rows(len(lists), MAX_VALIDATION_LISTS)
    ):
        is_real_BC = batch.mask_BC > 0
        click_logits.append(logits.click[is_real_BC].numpy())
        click_labels.append(batch.clicks_BC[is_real_BC].numpy() > 0)
        order_logits.append(compute_order_logit(logits)[is_real_BC].numpy())
        order_labels.append(batch.orders_BC[is_real_BC].numpy() > 0)
    affine_maps = [
        fit_platt_scaling(np.concatenate(click_logits), np.concatenate(click_labels)),
        fit_platt_scaling(np.concatenate(order_logits), np.concatenate(order_labels)),
    ]
    network.calibration.copy_(torch.tensor(affine_maps))


def scale_expected_revenue(network: Ranker, catalogue: CatalogueTensors, lists: RankingLists) -> None:
    """Makes the revenue that is expected of the lists what they earned."""
    expected_revenue = earned_revenue = 0.0
    for batch, logits in score_lists(
        network, catalogue, lists, pick_spread_rows(len(lists), MAX_VALIDATION_LISTS)
    ):
        *_, value_BC = network.calibrate_outputs(logits)
        expected_revenue += float((value_BC * batch.mask_BC).sum())
        earned_revenue += float(batch.values_BC.sum())
    if expected_revenue > 0 and earned_revenue > 0:
        network.usual_order.mul_(earned_revenue / expected_revenue)


def fit_platt_scaling(logits: FloatArray, labels: BoolArray) -> tuple[float, float]:
    """Scale and shift for which sigmoid(scale * logit + shift) fits the labels best, by Newton's method.

    Source: Platt, "Probabilistic outputs for support vector machines" (1999). The logits are left as they
    are without both classes, or where the fit would turn the ranking round.
    """
    if labels.all() or not labels.any():
        return 1.0, 0.0
    inputs = np.stack([logits.astype(np.float64), np.ones(len(logits))], 1)
    identity = np.array([1.0, 0.0])
    # The ridge pulls towards the identity. scikit-learn's pulls towards zero: with 14 orders among 817
    # candidates its shift is 0.02 off, and where all logits are alike it finds a negative scale.
    weights = identity
    for _ in range(_NEWTON_STEPS):
        probabilities = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        gradient = inputs.T @ (labels - probabilities) / len(inputs) - _RIDGE * (weights - identity)
        variances = probabilities * (1 - probabilities)
        curvature = (inputs * variances[:, None]).T @ inputs / len(inputs) + _RIDGE * np.eye(2)
        newton_step = np.linalg.solve(curvature, gradient)
        # A bounded step keeps Newton from overshooting where the curvature is flat.
        weights = weights + newton_step * min(1.0, 2.0 / max(float(np.abs(newton_step).max()), 1e-12))
        if np.abs(newton_step).max() < 1e-8:
            break
    scale, shift = float(weights[0]), float(weights[1])
    return (scale, shift) if scale > 0 and np.isfinite(scale + shift) else (1.0, 0.0)
