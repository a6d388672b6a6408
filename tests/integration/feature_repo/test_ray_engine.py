"""Feast's Ray engine writes first, in the environment `ray`; this one reads what it wrote."""

import json
import subprocess
from pathlib import Path

import polars as pl
import pytest

from feature_repo.config import FeatureStoreConfig
from feature_repo.make_sample import write_sample_inputs
from feature_repo.offline.build_features import build_features
from feature_repo.online.materialize_features import materialize_features

pytestmark = pytest.mark.integration

PYTHON = Path(__file__).parents[3] / ".venv-ray" / "bin" / "python"
MATERIALIZE = """
import json, sys
from pathlib import Path
from feature_repo.config import FeatureStoreConfig
from feature_repo.online.materialize_features import materialize_features

features, config, store = sys.argv[1:]
settings = FeatureStoreConfig.model_validate_json(config)
counts = materialize_features(Path(features), settings, store=Path(store))
print("COUNTS", json.dumps(counts))
"""


def _materialize_by_ray(features: Path, config: FeatureStoreConfig, store: Path) -> dict[str, float]:
    command = [PYTHON, "-c", MATERIALIZE, features, config.model_dump_json(), store]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("COUNTS ")[2])


@pytest.mark.skipif(not PYTHON.exists(), reason="no environment with Ray; make it with scripts/setup.sh ray")
def test_ray_writes_the_newest_rows_and_what_it_leaves_out_is_mended(
    redis_address: str, tmp_path: Path
) -> None:
    config = FeatureStoreConfig(
        online_store="redis",
        redis_connection=redis_address,
        engine="ray",
        processes=2,
        ttl_days=1,
        history_length=3,
    )
    features, store = tmp_path / "features", tmp_path / "store"
    build_features(*write_sample_inputs(tmp_path), config, out=features)
    items = pl.read_parquet(features / "items.parquet")
    older = items.with_columns(pl.col("event_timestamp").dt.offset_by("-1d"), item_price=pl.lit(99.0))
    pl.concat([items, older]).write_parquet(features / "items.parquet")
    counts = _materialize_by_ray(features, config, store)
    assert (counts["items_written"], counts["items_unchanged"]) == (0, 6), "the engine wrote the newest"
    assert counts["item_knowledge_written"] == 0
    assert counts["user_behaviors_written"] == 3, "the engine leaves out what is beyond the time to live"
    again = materialize_features(features, config.model_copy(update={"engine": "local"}), store=store)
    assert {name for name, rows in again.items() if rows and not name.endswith("_unchanged")} == set()
