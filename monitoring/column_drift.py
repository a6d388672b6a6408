"""The drift test of one column: far enough to matter, and not by chance.

A distance alone raises false alarms on short windows, a p-value alone on long ones; this asks for both: the Wasserstein
distance in reference standard deviations reaches the threshold, and a Kolmogorov-Smirnov test rejects equality.
"""

from typing import Final

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests.registry import StatTest, register_stattest
from evidently.legacy.core import ColumnType
from scipy import stats

METHOD: Final = "significant_wasserstein"
_ALPHA = 0.001


def significant_distance(
    reference: "pd.Series[float]", current: "pd.Series[float]", column_type: ColumnType, threshold: float
) -> tuple[float, bool]:
    """Normed Wasserstein distance, and whether the column has drifted; Evidently's signature of a drift test."""
    assert column_type == ColumnType.Numerical
    scale = max(float(np.std(reference)), 1e-3)
    distance = float(stats.wasserstein_distance(reference, current)) / scale
    drifted = distance >= threshold and float(stats.ks_2samp(reference, current).pvalue) < _ALPHA
    return distance, drifted


def register() -> None:
    """Makes the test known to Evidently as `METHOD`."""
    display = "Wasserstein distance (normed), significant by Kolmogorov-Smirnov"
    register_stattest(StatTest(METHOD, display, [ColumnType.Numerical], default_threshold=0.2), significant_distance)
