"""What a run's configuration becomes for the steps must be what the steps accept."""

from pathlib import Path

import pytest

from contracts.errors import UserError
from models.ranker.config import RankerConfig
from pipelines.arguments import _all
from pipelines.config import load_config
from pipelines.data import shop_data


def test_every_ranker_of_a_run_that_searches_is_valid(tmp_path: Path) -> None:
    config = load_config(None, ["features.history_length=500", "ranker.search_length=500"])
    found = _all(config, shop_data(tmp_path), "digest", tmp_path, {}, {})
    assert RankerConfig.model_validate_json(found["ranker_config"]).search_length == 500
    assert RankerConfig.model_validate_json(found["baseline_config"]).search_length == 0


def test_a_search_beyond_what_is_stored_names_both_settings() -> None:
    with pytest.raises(UserError, match=r"ranker\.search_length = 500 is above features\.history_length = 50"):
        load_config(None, ["ranker.search_length=500"])
