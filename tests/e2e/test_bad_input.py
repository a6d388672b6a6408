"""What a user gets wrong is answered with a clean message and exit code 2, and leaves nothing half-written."""

import random
import socket

import polars as pl
import pytest
import yaml

from tests.e2e.conftest import PORTS, reaseq, write_config

pytestmark = pytest.mark.e2e


@pytest.fixture
def own(tmp_path):
    """A stranger's CSV of 20 items and 100 events, and its configuration; both can be changed."""

    def _own(items=None, events=None, **changes):
        chance = random.Random(0)
        catalogue = {"sku": [f"s{n}" for n in range(20)], "name": [f"Thing number {n}" for n in range(20)]}
        log = {
            "customer": [f"c{chance.randrange(15)}" for _ in range(100)],
            "sku": [f"s{chance.randrange(20)}" for _ in range(100)],
            "when": [f"2025-01-{1 + n // 5:02d}T{n % 5:02d}:00:00" for n in range(100)],
            "what": ["purchase"] * 100,
        }
        pl.DataFrame(catalogue | (items or {})).write_csv(tmp_path / "items.csv")
        pl.DataFrame(log | (events or {})).write_csv(tmp_path / "events.csv")
        data = {
            "items": {"uri": str(tmp_path / "items.csv"), "columns": {"item_id": "sku", "title": "name"}},
            "events": {
                "uri": str(tmp_path / "events.csv"),
                "columns": {"user_id": "customer", "item_id": "sku", "timestamp": "when", "event_type": "what"},
                "event_types": {"purchase": "order"},
            },
        }
        config = write_config(tmp_path, data=data | changes.pop("data", {}), **changes)
        return str(config)

    return _own


def test_ones_own_csv_of_20_items_and_100_events_runs_through(own):
    done = reaseq("run", "--no-deploy", "--config", own())

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "NDCG@10" in done.stdout


@pytest.mark.parametrize(
    ("items", "events", "message"),
    [
        ({"sku": ["s1"] * 20}, {}, "duplicate key (item_id)"),
        ({}, {"sku": ["s99"] * 100}, "item_id: not in the catalogue"),
        ({}, {"when": ["soon"] * 100}, "timestamp: missing"),
        ({}, {"what": ["look"] * 100}, "event_type: not one of impression, click, cart, order"),
    ],
)
def test_rows_that_break_the_contract_are_named_with_their_reason(own, items, events, message):
    refused = reaseq("run", "--no-deploy", "--config", own(items, events))

    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_empty_log_a_lone_item_and_a_missing_column_are_answered(own, tmp_path):
    config = own()
    cases = [
        ("events.csv", "customer,sku,when,what\n", "holds no row"),
        ("items.csv", "sku,name\ns1,Alone\n", "holds 1 usable item(s)"),
        ("items.csv", "sku,label\ns1,Alone\n", "column(s) name that"),
    ]
    for file, content, message in cases:
        kept = (tmp_path / file).read_text()
        (tmp_path / file).write_text(content)
        refused = reaseq("run", "--no-deploy", "--config", config)
        (tmp_path / file).write_text(kept)
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr


def test_events_after_the_cut_off_are_left_out_and_counted(own, tmp_path):
    config = own(data={"cutoff": "2025-01-15T00:00:00Z"})

    done = reaseq("run", "--no-deploy", "--config", config, "--set", "data.split.train=0.6")

    assert done.returncode == 0, done.stderr
    metrics = next((tmp_path / "work").rglob("ingest/metrics")).read_text()
    assert '"rows_after_cutoff": 30' in metrics


def test_a_port_already_taken_is_named_with_the_setting_to_change(demo):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", PORTS["gateway"]))
        taken.listen()
        refused = reaseq("serve", "--config", str(demo[0]))

    assert refused.returncode == 2
    assert str(PORTS["gateway"]) in refused.stderr
    assert "serving.gateway.port" in refused.stderr


def test_without_triton_the_remedy_is_named(demo):
    refused = reaseq("serve", "--config", str(demo[0]), env={"REASEQ_TRITON_PYTHON": "/nowhere/python"})

    assert refused.returncode == 2
    assert "make setup" in refused.stderr


def test_a_configuration_with_three_errors_reports_all(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({"name": "My Shop", "ranker": {"dim": 0}, "colour": "red"}))

    refused = reaseq("config", "--config", str(path))

    assert refused.returncode == 2
    assert "3 error(s)" in refused.stderr
    assert all(place in refused.stderr for place in ("name:", "ranker.dim:", "colour:"))


def test_asking_a_gateway_that_is_not_there_says_so(tmp_path):
    refused = reaseq("rank", "--user", "u", "--candidates", "a", "--url", "http://127.0.0.1:9")

    assert refused.returncode == 2
    assert "reaseq serve" in refused.stderr
