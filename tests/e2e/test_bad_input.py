"""What a user gets wrong is answered with a clean message and exit code 2; nothing is half-written."""

import random

import polars as pl
import pytest
import yaml

from tests.e2e.conftest import run_reaseq, write_config

pytestmark = pytest.mark.e2e


@pytest.fixture
def write_own_shop(tmp_path):
    """A stranger's CSV of 20 items and 100 events, and its configuration; both can be changed."""

    def _own(items=None, events=None, **changes):
        random_source = random.Random(0)
        catalogue = {"sku": [f"s{n}" for n in range(20)], "name": [f"Thing number {n}" for n in range(20)]}
        event_log = {
            "customer": [f"c{random_source.randrange(15)}" for _ in range(100)],
            "sku": [f"s{random_source.randrange(20)}" for _ in range(100)],
            "when": [f"2025-01-{1 + n // 5:02d}T{n % 5:02d}:00:00" for n in range(100)],
            "what": ["purchase"] * 100,
        }
        pl.DataFrame(catalogue | (items or {})).write_csv(tmp_path / "items.csv")
        pl.DataFrame(event_log | (events or {})).write_csv(tmp_path / "events.csv")
        data_section = {
            "items": {"uri": str(tmp_path / "items.csv"), "columns": {"item_id": "sku", "title": "name"}},
            "events": {
                "uri": str(tmp_path / "events.csv"),
                "columns": {
                    "user_id": "customer",
                    "item_id": "sku",
                    "timestamp": "when",
                    "event_type": "what",
                },
                "event_types": {"purchase": "order"},
            },
        }
        config_path = write_config(tmp_path, data=data_section | changes.pop("data", {}), **changes)
        return str(config_path)

    return _own


def test_ones_own_csv_of_20_items_and_100_events_runs_through(write_own_shop):
    done = run_reaseq("run", "--no-deploy", "--config", write_own_shop())

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "NDCG@10" in done.stdout


@pytest.mark.parametrize(
    ("items", "events", "message"),
    [
        ({"sku": ["s1"] * 20}, {}, "holds 1 usable item(s)"),
        ({}, {"sku": ["s99"] * 100}, "item_id: not in the catalogue"),
        ({}, {"when": ["soon"] * 100}, "timestamp: cannot be read as a time"),
        ({}, {"what": ["look"] * 100}, "look (100 rows)"),
    ],
)
def test_rows_that_break_the_contract_are_named_with_their_reason(write_own_shop, items, events, message):
    refused = run_reaseq("run", "--no-deploy", "--config", write_own_shop(items, events))

    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_empty_log_a_lone_item_and_a_missing_column_are_answered(write_own_shop, tmp_path):
    config_path = write_own_shop()
    cases = [
        ("events.csv", "customer,sku,when,what\n", "holds no row"),
        ("items.csv", "sku,name\ns1,Alone\n", "holds 1 usable item(s)"),
        ("items.csv", "sku,label\ns1,Alone\n", "column(s) name that"),
    ]
    for file_name, broken_text, expected_message in cases:
        original_text = (tmp_path / file_name).read_text()
        (tmp_path / file_name).write_text(broken_text)
        refused = run_reaseq("run", "--no-deploy", "--config", config_path)
        (tmp_path / file_name).write_text(original_text)
        assert (refused.returncode, expected_message in refused.stderr) == (2, True), refused.stderr


def test_a_cut_off_before_nearly_all_events_is_named(write_own_shop):
    config_path = write_own_shop(data={"cutoff": "2025-01-02T00:00:00Z"})

    refused = run_reaseq("run", "--no-deploy", "--config", config_path)

    assert refused.returncode == 2
    assert "5 behaviors" in refused.stderr
    assert "2025-01-02" in refused.stderr


def test_a_configuration_with_three_errors_reports_all(tmp_path):
    config_path = tmp_path / "wrong.yaml"
    config_path.write_text(yaml.safe_dump({"name": "My Shop", "ranker": {"dim": 0}, "color": "red"}))

    refused = run_reaseq("config", "--config", str(config_path))

    assert refused.returncode == 2
    assert "3 error(s)" in refused.stderr
    assert all(dotted_key in refused.stderr for dotted_key in ("name:", "ranker.dim:", "color:"))


def test_asking_a_gateway_that_is_not_there_says_so(tmp_path):
    refused = run_reaseq("rank", "--user", "u", "--candidates", "a", "--url", "http://127.0.0.1:9")

    assert refused.returncode == 2
    assert "reaseq serve" in refused.stderr
