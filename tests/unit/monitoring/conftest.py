from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from contracts.table_schema import UTC_TIME
from monitoring.drift.served_features import SERVING_FEATURES

START = datetime(2025, 5, 1, tzinfo=UTC)


def _window(seed: int, *, requests: int = 300, shift: float = 0.0, turned: bool = False) -> pl.DataFrame:
    """A window of serving features of 10 rows a request; `shift` moves the scores, `turned` the item
    vectors."""
    rng = np.random.default_rng(seed)
    rows = requests * 10
    request = np.repeat(np.arange(requests), 10)
    vectors = rng.standard_normal((rows, 8)).astype(np.float32) * np.linspace(1.5, 0.5, 8, dtype=np.float32)
    if turned:
        vectors[:, 0] = np.abs(vectors[:, 0])
    frame = pl.DataFrame(
        {
            "request_id": [f"r{seed}-{number}" for number in request],
            "item_id": [f"i{number}" for number in range(rows)],
            "timestamp": pl.Series(
                [START + timedelta(minutes=int(number)) for number in request], dtype=UTC_TIME
            ),
            "score": rng.normal(shift, 1, rows),
            "degraded": np.zeros(rows),
            "price": rng.lognormal(3, 0.5, rows),
            "item_age_s": rng.exponential(1e6, rows),
            "history_length": rng.poisson(8, requests)[request].astype(float),
            "newest_behavior_age_s": rng.exponential(1e5, requests)[request],
            "inferred_length": np.full(rows, 10.0),
            "embedding": pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32())),
        }
    )
    return SERVING_FEATURES.check_rows(frame)


@pytest.fixture(scope="session")
def serving_window() -> Callable[..., pl.DataFrame]:
    return _window
