"""The feature store's tests share helpers with the unit tests."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "tests" / "unit" / "feature_repo"))  # for price_codes
