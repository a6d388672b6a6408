"""What a run's configuration becomes for the steps must be what the steps accept."""

from pathlib import Path

import pytest

from contracts.errors import UserError
from models.ranker.config import RankerConfig
from pipelines.config import load_config
from pipelines.run_arguments import _build_arguments
from pipelines.run_data import describe_shop_data


def test_every_ranker_of_a_run_that_searches_is_valid(tmp_path: Path) -> None:
    run_config = load_config(None, ["features.history_length=500", "ranker.search_length=500"])
    run_arguments = _build_arguments(run_config, describe_shop_data(tmp_path), tmp_path, {})
    assert RankerConfig.model_validate_json(run_arguments["ranker_config"]).search_length == 500
    assert RankerConfig.model_validate_json(run_arguments["baseline_config"]).search_length == 0


def test_a_search_beyond_what_is_stored_names_both_settings() -> None:
    with pytest.raises(
        UserError, match=r"ranker\.search_length = 500 is above features\.history_length = 50"
    ):
        load_config(None, ["ranker.search_length=500"])
