"""The tiny shop of the unit tests, and processes that train on it."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "tests" / "unit" / "ranker"))  # for ranker_shop


@pytest.fixture(autouse=True)
def _one_thread_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of a sum, and so its last bit, depends on the number of threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setitem(os.environ, name, "1")
