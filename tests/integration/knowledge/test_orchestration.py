"""Real processes against a stub server: killed at random moments, and two shards at once on one cache."""

import json
from multiprocessing import get_context
from pathlib import Path

import polars as pl
import pytest

from benchmarks.knowledge import orchestration as knowledge_orchestration
from benchmarks.knowledge.orchestration import make_stub_config, measure_resume
from benchmarks.knowledge.stub_teacher import StubServer, run_stub_server
from benchmarks.shared.generated_tables import write_catalogue
from contracts.shards import Shard
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.distillation.merge_knowledge import merge_knowledge

pytestmark = pytest.mark.integration


def test_a_run_killed_at_random_moments_pays_nothing_twice(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(knowledge_orchestration, "KILLED_ITEMS", 60)
    monkeypatch.setattr(knowledge_orchestration, "NUM_KILLS", 2)
    identical, paid_twice = measure_resume(tmp_path)
    assert (identical.value, paid_twice.value) == (1, 0)
    whole, killed = (
        json.loads((tmp_path / name / "out" / "ledger.json").read_text(encoding="utf-8"))
        for name in ("whole", "killed")
    )
    # Each answer reads 1000 tokens; a kill may come after one was booked and before it was kept.
    tokens = [found["spent"]["total"]["tokens_in"] for found in (whole, killed)]
    assert tokens[0] <= tokens[1] <= tokens[0] + 2 * 1000
    assert killed["paid"]["total"]["tokens_in"] < tokens[0]


def test_two_shards_at_once_share_a_cache(tmp_path: Path) -> None:
    dataset = write_catalogue(tmp_path / "dataset", 60)
    with run_stub_server(0.02) as server:
        spawn = get_context("spawn")
        workers = [
            spawn.Process(target=distil_shard, args=(server.url, dataset, tmp_path, number))
            for number in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        counts = server.read_counts()
        config = make_stub_config(server)
        distill_knowledge(dataset, config, cache=tmp_path / "cache", out=tmp_path / "whole")
        assert server.read_counts() == counts, "what the shards were answered serves a run of the whole"
    # Both may ask for the same plan at the same time, of at most 50 categories.
    assert counts["requests"] - counts["distinct"] <= 50
    assert counts["distinct"] == 60 * 4 + 50
    merge_knowledge(
        dataset,
        [tmp_path / "shard0", tmp_path / "shard1"],
        config,
        cache=tmp_path / "cache",
        out=tmp_path / "merged",
    )
    tables = [pl.read_parquet(tmp_path / name / "knowledge.parquet") for name in ("whole", "merged")]
    assert tables[0].equals(tables[1])


def distil_shard(url: str, dataset: Path, folder: Path, number: int) -> None:
    """One worker."""
    config = make_stub_config(StubServer(url))
    shard = Shard(number, 2)
    distill_knowledge(dataset, config, cache=folder / "cache", out=folder / f"shard{number}", shard=shard)
