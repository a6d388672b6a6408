"""Drift of item vectors as an Evidently metric: can a classifier tell the two windows apart?

The AUC of a domain classifier (Lopez-Paz, Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017), cross-validated:
0.5 means it cannot. Evidently's own `EmbeddingsDrift` always runs t-SNE, which takes minutes on a real window.
"""

import numpy as np
import numpy.typing as npt
from evidently.core.datasets import Dataset
from evidently.core.metric_types import SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.core.report import Context
from evidently.legacy.renderers.html_widgets import CounterData, counter
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Vectors = npt.NDArray[np.float32]
_MAX_ROWS = 5000


def principal_components(reference: Vectors, current: Vectors, *, count: int) -> tuple[Vectors, Vectors]:
    """Projects both [n, d] onto the first `count` principal axes of `reference` (fewer when d is smaller)."""
    center = reference.mean(axis=0, dtype=np.float64)
    centered = reference - center
    _, axes = np.linalg.eigh(centered.T @ centered)
    axes = axes[:, ::-1][:, :count]
    return np.asarray(centered @ axes, dtype=np.float32), np.asarray((current - center) @ axes, dtype=np.float32)


def domain_auc(reference: Vectors, current: Vectors, *, seed: int) -> float:
    """Cross-validated AUC of telling `current` [n, c] from `reference` [m, c]."""
    rng = np.random.default_rng(seed)
    sides = [side[rng.permutation(len(side))[:_MAX_ROWS]] for side in (reference, current)]
    label = np.repeat([0, 1], [len(side) for side in sides])
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, learning_rate=0.15, random_state=seed)
    with threadpool_limits(1):  # threads of a small fit only wait for each other where cores are shared
        scores = cross_val_predict(model, np.concatenate(sides), label, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(label, scores))


class ItemVectorDrift(SingleValueMetric):  # type: ignore[misc]  # Evidently ships no types we follow
    """AUC of a domain classifier on the columns named."""

    columns: list[str]
    seed: int


class ItemVectorDriftCalculation(SingleValueCalculation[ItemVectorDrift]):  # type: ignore[misc]
    """Computes `ItemVectorDrift`."""

    def calculate(self, context: Context, current_data: Dataset, reference_data: Dataset) -> SingleValue:  # noqa: ARG002
        """Compares the windows."""
        reference, current = (self._vectors(data) for data in (reference_data, current_data))
        auc = domain_auc(reference, current, seed=self.metric.seed)
        result = self.result(auc)
        label = "AUC of telling the windows apart by item vectors (0.5 = cannot)"
        result.widget = [counter(title=self.display_name(), counters=[CounterData.float(label, auc, 3)])]
        return result

    def display_name(self) -> str:
        """Title in reports and tests."""
        return "Item vector drift (domain classifier AUC)"

    def _vectors(self, data: Dataset) -> Vectors:
        return np.asarray(data.as_dataframe()[self.metric.columns].dropna(), dtype=np.float32)
