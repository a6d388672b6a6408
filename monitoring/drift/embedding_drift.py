"""Drift of item vectors: can a classifier tell the two windows apart?

The AUC of a domain classifier (Lopez-Paz, Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017),
cross-validated: 0.5 means it cannot. Evidently's own `EmbeddingsDrift` always runs t-SNE, which takes minutes
on a real window.
"""

from typing import Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from contracts.array_types import FloatArray

# The standard error of an AUC of so many rows is 0.006, and the fit takes seconds.
_MAX_ROWS: Final = 5000


def project_on_principal_axes(
    reference: FloatArray, current: FloatArray, *, num_axes: int
) -> tuple[FloatArray, FloatArray]:
    """Projects both [n, d] onto the first principal axes of `reference` (fewer when d is smaller)."""
    center = reference.mean(axis=0, dtype=np.float64)
    centered_reference = reference - center
    _, all_axes = np.linalg.eigh(centered_reference.T @ centered_reference)
    # `eigh` returns the axis of the largest variance last.
    first_axes = all_axes[:, ::-1][:, :num_axes]
    projections = (centered_reference @ first_axes, (current - center) @ first_axes)
    return projections[0].astype(np.float32), projections[1].astype(np.float32)


def cross_validate_domain_auc(reference: FloatArray, current: FloatArray, *, seed: int) -> float:
    """Cross-validated AUC of telling `current` [n, c] from `reference` [m, c]."""
    rng = np.random.default_rng(seed)
    samples = [window[rng.permutation(len(window))[:_MAX_ROWS]] for window in (reference, current)]
    is_current = np.repeat([0, 1], [len(sample) for sample in samples])
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    model = HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=8, learning_rate=0.15, random_state=seed
    )
    with threadpool_limits(1):  # threads of a small fit only wait for each other where cores are shared
        probabilities = cross_val_predict(
            model, np.concatenate(samples), is_current, cv=folds, method="predict_proba"
        )
    return float(roc_auc_score(is_current, probabilities[:, 1]))
