"""Whatever mess an export is in, what comes out is the truth."""

import os
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.dataset import read_dataset
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from tests.unit.contracts.messy_logs import sort_events, write_messy_log

NUM_LOGS = int(os.environ.get("REASEQ_MESSY_LOGS", "200"))
"""`make test-all` tries more."""
NUM_PARTS = 4
"""Tests that may run side by side."""


@pytest.mark.parametrize("part", range(NUM_PARTS))
@settings(max_examples=NUM_LOGS // NUM_PARTS)
@given(seed=st.integers(0, 2**32))
def test_a_messy_log_becomes_its_truth(part, seed):
    with tempfile.TemporaryDirectory() as folder:
        messy = write_messy_log(seed * NUM_PARTS + part, Path(folder))
        ingest_dataset(DataConfig.model_validate(messy.data), out=Path(folder) / "out", is_told=False)
        dataset = read_dataset(Path(folder) / "out")

    events = dataset.events.with_columns(pl.col("price").round(2))
    assert sort_events(events.to_dicts()) == messy.events, messy.messes
    assert dict(dataset.items.select("item_id", "title").iter_rows()) == messy.titles, messy.messes
