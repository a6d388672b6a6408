"""Platt calibration: an affine map of the logit, fitted on validation lists and built into the exported graph."""

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]

_STEPS = 30
_RIDGE = 1e-6


def fit_platt(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Scale and shift for which sigmoid(scale * logit + shift) fits the labels best (logistic regression, Newton).

    Source: Platt, "Probabilistic outputs for support vector machines" (1999). Without both classes, or where the fit
    would turn the ranking round, the logits are left as they are.
    """
    if labels.all() or not labels.any():
        return 1.0, 0.0
    x = np.stack([logits.astype(np.float64), np.ones(len(logits))], 1)
    weights = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (labels - p) / len(x) - _RIDGE * (weights - [1.0, 0.0])
        curvature = (x * (p * (1 - p))[:, None]).T @ x / len(x) + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # A bounded step keeps Newton from overshooting where the curvature is flat.
        weights = weights + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    scale, shift = float(weights[0]), float(weights[1])
    return (scale, shift) if scale > 0 and np.isfinite(scale + shift) else (1.0, 0.0)
