"""What distillation costs beyond its teacher: overhead, cached reruns, resume after `kill -9`, memory.

The teacher is a stub server of fixed delay (benchmarks/knowledge/stub_teacher.py), or one in process for
memory. Bare time is that of the very same requests, sent straight through the teacher, stage after stage. It
takes about 15 minutes.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import polars as pl

from benchmarks.knowledge.recording_teacher import RecordingTeacher
from benchmarks.knowledge.stub_teacher import StubServer, run_stub_server, write_reply
from benchmarks.shared.generated_tables import write_catalogue
from benchmarks.shared.measured_process import measure_seconds, read_peak_kib, run_module
from benchmarks.shared.results import Row, make_row
from contracts.shards import Shard
from models.knowledge.cache.answer_cache import ANSWERS_FOLDER
from models.knowledge.cache.blob_store import BlobStore
from models.knowledge.config import KnowledgeConfig, OpenAITeacherConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.teacher import LiveTeacher, TeacherRequest, TeacherResponse, TokenPrice

NUM_ITEMS = 10_000
NUM_ROUNDS = 4
DELAY_S = 0.4
CONCURRENCY = 64
STAGES = (("planner",), ("demand_analyst", "attribute_analyst"), ("critic",), ("editor",))
NUM_KILLS, KILLED_ITEMS, KILLED_DELAY_S, SEED = 5, 600, 0.1, 0
MEMORY_ITEMS = (10_000, 100_000)


def measure_orchestration() -> list[Row]:
    """All rows of orchestration."""
    rows: list[Row] = []
    for measure_part in (measure_resume, measure_memory, measure_overhead):
        with TemporaryDirectory() as folder:
            rows += measure_part(Path(folder))
    return rows


def measure_overhead(folder: Path) -> list[Row]:
    """Wall time over the bare teacher's, and a cached rerun's over the first run's."""
    dataset = write_catalogue(folder / "dataset", NUM_ITEMS)
    with run_stub_server(DELAY_S) as server:
        config = make_stub_config(server)
        # By turns, so that what else this machine does weighs on both alike.
        rounds = [_time_round(dataset, config, folder, Shard(turn, NUM_ROUNDS)) for turn in range(NUM_ROUNDS)]
        rerun_s = _time_distillation(dataset, config, folder, "rerun", lambda: build_teacher(config.teacher))
    first_s, bare_s = (sum(seconds) for seconds in zip(*rounds, strict=True))
    print(f"stub: {first_s:.1f} s, bare {bare_s:.1f} s, cached {rerun_s:.2f} s", flush=True)
    data = f"{NUM_ITEMS:,} items, stub server of {DELAY_S} s delay, concurrency {CONCURRENCY}"
    make_ratio_row = partial(make_row, unit="ratio", better="lower", data=data)
    return [
        make_ratio_row("knowledge.overhead.stub_ratio", first_s / bare_s),
        make_ratio_row("knowledge.cached_rerun_ratio", rerun_s / first_s),
    ]


def _time_round(dataset: Path, config: KnowledgeConfig, folder: Path, shard: Shard) -> tuple[float, float]:
    """Seconds of distilling a shard of the catalogue, and of its requests alone."""
    recorded: list[TeacherRequest] = []
    teacher = RecordingTeacher(build_teacher(config.teacher), recorded)
    out_name = f"shard{shard.number}"
    distilled_s = _time_distillation(dataset, config, folder, out_name, lambda: teacher, shard=shard)
    bare_s = _time_teacher_alone(config, recorded)
    print(f"shard {shard}: {distilled_s:.1f} s, bare {bare_s:.1f} s, {len(recorded)} requests", flush=True)
    return distilled_s, bare_s


def measure_resume(folder: Path) -> list[Row]:
    """Kills a run at random moments, lets it end, and compares table and requests with an undisturbed run."""
    dataset = write_catalogue(folder / "killed_dataset", KILLED_ITEMS)
    with run_stub_server(KILLED_DELAY_S) as server:
        _start_distillation(server, dataset, folder / "whole").wait()
        num_requests = server.read_counts()["requests"]
    with run_stub_server(KILLED_DELAY_S) as server:
        kill_moments = sorted(random.Random(SEED).sample(range(1, num_requests), NUM_KILLS))
        num_lost = sum(_kill_after(moment, server, dataset, folder / "killed") for moment in kill_moments)
        _start_distillation(server, dataset, folder / "killed").wait()
        request_counts = server.read_counts()
    whole_table, killed_table = (
        pl.read_parquet(folder / name / "out" / "knowledge.parquet") for name in ("whole", "killed")
    )
    num_repeated = request_counts["requests"] - request_counts["distinct"]
    print(
        f"resume: killed at {kill_moments} of {num_requests}, {num_lost} lost, {num_repeated} repeated",
        flush=True,
    )
    data = f"{KILLED_ITEMS} items, {NUM_KILLS} kills at seeded random moments, concurrency {CONCURRENCY}"
    is_identical, paid_twice = whole_table.equals(killed_table), max(0, num_repeated - num_lost)
    make_resume_row = partial(make_row, data=data, seeds=[SEED])
    return [
        make_resume_row("knowledge.resume.identical", is_identical, unit="ratio"),
        make_resume_row("knowledge.resume.paid_twice", paid_twice, unit="requests", better="lower"),
    ]


def measure_memory(folder: Path) -> list[Row]:
    """Peak memory with ten times the items."""
    peaks_kib = []
    for num_items in MEMORY_ITEMS:
        # Made here: what it takes to make the catalogue is not what it takes to distill it.
        write_catalogue(folder / f"memory_{num_items}", num_items)
        printed_words = run_module("benchmarks.knowledge.orchestration", "--memory", num_items, folder)
        peaks_kib.append(int(printed_words[-1]))
        print(f"memory: {num_items} items, peak {peaks_kib[-1] / 1024:.0f} MiB", flush=True)
    growth = peaks_kib[1] / peaks_kib[0]
    data = " over ".join(f"{num_items:,}" for num_items in MEMORY_ITEMS[::-1]) + " items, teacher in process"
    return [make_row("knowledge.memory_growth_10x", growth, unit="ratio", better="lower", data=data)]


def make_stub_config(server: StubServer) -> KnowledgeConfig:
    """Distillation by a stub."""
    teacher = OpenAITeacherConfig(kind="openai", base_url=server.url, model="stub", concurrency=CONCURRENCY)
    return KnowledgeConfig(teacher=teacher)


class InstantTeacher:
    """A teacher in process that answers as the stub server does, at once."""

    name = "instant"
    sampling: dict[str, Any] = {}
    price = TokenPrice()

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers at once."""
        for number, request in enumerate(requests):
            yield TeacherResponse(
                number, write_reply(request.agent, request.agent_input.model_dump(mode="json")), 1000, 250
            )


def _time_distillation(
    dataset: Path,
    config: KnowledgeConfig,
    folder: Path,
    out_name: str,
    make_teacher: Callable[[], object],
    shard: Shard | None = None,
) -> float:
    with patch("models.knowledge.distillation.distill_knowledge.build_teacher", lambda _: make_teacher()):
        return measure_seconds(
            lambda: distill_knowledge(
                dataset, config, cache=folder / "cache", out=folder / out_name, shard=shard
            )
        )


def _time_teacher_alone(config: KnowledgeConfig, recorded: Sequence[TeacherRequest]) -> float:
    teacher = build_teacher(config.teacher)
    assert isinstance(teacher, LiveTeacher)
    requests_by_stage = [[request for request in recorded if request.agent in agents] for agents in STAGES]
    start_s = time.perf_counter()
    for requests in requests_by_stage:
        assert sum(not response.error for response in teacher.answer_batch(requests)) == len(requests)
    return time.perf_counter() - start_s


def _start_distillation(server: StubServer, dataset: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Distillation in a process of its own."""
    module_arguments = ["--distill", server.url, str(dataset), str(folder)]
    return subprocess.Popen([sys.executable, "-m", "benchmarks.knowledge.orchestration", *module_arguments])


def _kill_after(moment: int, server: StubServer, dataset: Path, folder: Path) -> int:
    """Kills a run at so many distinct requests; returns how many of these are not in the cache."""
    distillation = _start_distillation(server, dataset, folder)
    while server.read_counts()["distinct"] < moment and distillation.poll() is None:
        time.sleep(0.005)
    distillation.kill()
    distillation.wait()
    return server.read_counts()["distinct"] - len(BlobStore(folder / "cache" / ANSWERS_FOLDER))


def _distill_catalogue(url: str, dataset: str, folder: str) -> None:
    run_folder = Path(folder)
    config = make_stub_config(StubServer(url))
    distill_knowledge(Path(dataset), config, cache=run_folder / "cache", out=run_folder / "out")


def _print_peak(num_items: int, folder: Path) -> None:
    """Peak memory (KiB) of distilling so many items, then of doing so again from the cache."""
    dataset, out_folder = folder / f"memory_{num_items}", folder / f"out_{num_items}"
    for run_name in ("first", "again"):
        _time_distillation(dataset, KnowledgeConfig(), out_folder, run_name, InstantTeacher)
    print(read_peak_kib())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--distill", nargs=3, metavar=("URL", "DATASET", "FOLDER"))
    parser.add_argument("--memory", nargs=2, metavar=("ITEMS", "FOLDER"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if options.distill:
        _distill_catalogue(*options.distill)
    else:
        _print_peak(int(options.memory[0]), Path(options.memory[1]))
