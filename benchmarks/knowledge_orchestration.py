"""What distillation costs beyond its teacher: overhead, cached reruns, resume after `kill -9`, memory.

The teacher is a stub server of fixed delay (benchmarks/stub_teacher.py), or one in process for memory. Bare time is
that of the very same requests, sent straight through the teacher, stage after stage. `measure` takes about 15 minutes.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import polars as pl

from benchmarks.catalogue import write_catalogue
from benchmarks.memory import peak_kib
from benchmarks.results import Row, make_row, write_rows
from benchmarks.stub_teacher import StubServer, reply, run_stub
from contracts.shards import Shard
from models.knowledge.answers import REQUESTS
from models.knowledge.config import KnowledgeConfig, OpenAITeacherConfig
from models.knowledge.distill import distill_knowledge
from models.knowledge.store import Store
from models.knowledge.teachers.base import LiveTeacher, Price, Request, Response
from models.knowledge.teachers.build import build_teacher

COMMAND = "make bench-knowledge"
NUM_ITEMS = 10_000
NUM_ROUNDS = 4
DELAY_S = 0.4
CONCURRENCY = 64
STAGES = (("planner",), ("demand_analyst", "attribute_analyst"), ("critic",), ("editor",))
NUM_KILLS, KILLED_ITEMS, KILLED_DELAY_S, SEED = 5, 600, 0.1, 0
MEMORY_ITEMS = (10_000, 100_000)


def measure() -> list[Row]:
    """All rows of orchestration."""
    rows: list[Row] = []
    for part in (measure_resume, measure_memory, measure_overhead):
        with TemporaryDirectory() as folder:
            rows += part(Path(folder))
    return rows


def measure_overhead(folder: Path) -> list[Row]:
    """Wall time over the bare teacher's, and a cached rerun's over the first run's."""
    dataset = write_catalogue(folder / "dataset", NUM_ITEMS)
    with run_stub(DELAY_S) as server:
        config = stub_config(server)
        # By turns, so that what else this machine does weighs on both alike.
        rounds = [_time_round(dataset, config, folder, Shard(number, NUM_ROUNDS)) for number in range(NUM_ROUNDS)]
        rerun_s = _run(dataset, config, folder, "rerun", lambda: build_teacher(config.teacher))
    first_s, bare_s = (sum(times) for times in zip(*rounds, strict=True))
    print(f"stub: {first_s:.1f} s, bare {bare_s:.1f} s, cached {rerun_s:.2f} s", flush=True)
    data = f"{NUM_ITEMS:,} items, stub server of {DELAY_S} s delay, concurrency {CONCURRENCY}"
    return [
        _row("knowledge.overhead.stub_ratio", first_s / bare_s, data),
        _row("knowledge.cached_rerun_ratio", rerun_s / first_s, data),
    ]


def _time_round(dataset: Path, config: KnowledgeConfig, folder: Path, shard: Shard) -> tuple[float, float]:
    """Seconds of distilling a part of the catalogue, and of its requests alone."""
    recorded: list[Request] = []
    teacher = _Recorder(build_teacher(config.teacher), recorded)
    distilled_s = _run(dataset, config, folder, f"part{shard.number}", lambda: teacher, shard=shard)
    bare_s = _time_bare(config, recorded)
    print(f"part {shard}: {distilled_s:.1f} s, bare {bare_s:.1f} s, {len(recorded)} requests", flush=True)
    return distilled_s, bare_s


def measure_resume(folder: Path) -> list[Row]:
    """Kills a run at random moments, lets it end, and compares table and requests with an undisturbed run."""
    dataset = write_catalogue(folder / "killed_dataset", KILLED_ITEMS)
    with run_stub(KILLED_DELAY_S) as server:
        _distil_process(server, dataset, folder / "whole").wait()
        total = server.counts()["requests"]
    with run_stub(KILLED_DELAY_S) as server:
        moments = sorted(random.Random(SEED).sample(range(1, total), NUM_KILLS))
        lost = sum(_kill_at(moment, server, dataset, folder / "killed") for moment in moments)
        _distil_process(server, dataset, folder / "killed").wait()
        counts = server.counts()
    tables = [pl.read_parquet(folder / name / "out" / "knowledge.parquet") for name in ("whole", "killed")]
    repeated = counts["requests"] - counts["distinct"]
    print(f"resume: killed at {moments} of {total} requests, {lost} lost in flight, {repeated} repeated", flush=True)
    data = f"{KILLED_ITEMS} items, {NUM_KILLS} kills at seeded random moments, concurrency {CONCURRENCY}"
    return [
        _row("knowledge.resume.identical", float(tables[0].equals(tables[1])), data, better="higher", seeds=[SEED]),
        _row("knowledge.resume.paid_twice", max(0, repeated - lost), data, unit="requests", seeds=[SEED]),
    ]


def measure_memory(folder: Path) -> list[Row]:
    """Peak memory with ten times the items."""
    peaks = []
    for num_items in MEMORY_ITEMS:
        # Made here: what it takes to make the catalogue is not what it takes to distil it.
        write_catalogue(folder / f"memory_{num_items}", num_items)
        command = [sys.executable, "-m", "benchmarks.knowledge_orchestration", "--memory", str(num_items), str(folder)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(int(output.splitlines()[-1]))
        print(f"memory: {num_items} items, peak {peaks[-1] / 1024:.0f} MiB", flush=True)
    data = " over ".join(f"{num_items:,}" for num_items in MEMORY_ITEMS[::-1]) + " items, teacher in process"
    return [_row("knowledge.memory_growth_10x", peaks[1] / peaks[0], data)]


def stub_config(server: StubServer) -> KnowledgeConfig:
    """Distillation by a stub."""
    teacher = OpenAITeacherConfig(kind="openai", base_url=server.url, model="stub", concurrency=CONCURRENCY)
    return KnowledgeConfig(teacher=teacher)


class _Recorder:
    """A live teacher that keeps what it was asked."""

    def __init__(self, teacher: Any, asked: list[Request]) -> None:
        self._teacher = teacher
        self._asked = asked
        self.name, self.sampling, self.price = teacher.name, teacher.sampling, teacher.price

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        return self.answer_live(iter(requests))

    def answer_live(self, feed: Iterator[Request]) -> Iterator[Response]:
        responses: Iterator[Response] = self._teacher.answer_live(_Tap(feed, self._asked))
        return responses


class _Tap:
    """A live feed that notes what passes."""

    def __init__(self, feed: Iterator[Request], asked: list[Request]) -> None:
        self._feed = feed
        self._asked = asked

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        self._asked.append(next(self._feed))
        return self._asked[-1]


class _Instant:
    """A teacher in process that answers as the stub server does, at once."""

    name = "instant"
    sampling: dict[str, Any] = {}
    price = Price()

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        for number, request in enumerate(requests):
            yield Response(number, reply(request.agent, request.given.model_dump(mode="json")), 1000, 250)


def _run(
    dataset: Path, config: KnowledgeConfig, folder: Path, name: str, make_teacher: Any, shard: Shard | None = None
) -> float:
    start = time.perf_counter()
    with patch("models.knowledge.distill.build_teacher", lambda _: make_teacher()):
        distill_knowledge(dataset, config, cache=folder / "cache", out=folder / name, shard=shard)
    return time.perf_counter() - start


def _time_bare(config: KnowledgeConfig, recorded: Sequence[Request]) -> float:
    teacher = build_teacher(config.teacher)
    assert isinstance(teacher, LiveTeacher)
    stages = [[request for request in recorded if request.agent in agents] for agents in STAGES]
    start = time.perf_counter()
    for stage in stages:
        assert sum(not response.error for response in teacher.answer(stage)) == len(stage)
    return time.perf_counter() - start


def _distil_process(server: StubServer, dataset: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Distillation in a process of its own."""
    arguments = ["--distil", server.url, str(dataset), str(folder)]
    return subprocess.Popen([sys.executable, "-m", "benchmarks.knowledge_orchestration", *arguments])


def _kill_at(moment: int, server: StubServer, dataset: Path, folder: Path) -> int:
    """Kills a run when that many distinct requests came in; returns how many of all these are not in the cache."""
    process = _distil_process(server, dataset, folder)
    while server.counts()["distinct"] < moment and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    return server.counts()["distinct"] - len(Store(folder / "cache" / REQUESTS))


def _distil(url: str, dataset: str, folder: str) -> None:
    out = Path(folder)
    distill_knowledge(Path(dataset), stub_config(StubServer(url)), cache=out / "cache", out=out / "out")


def _print_peak(num_items: int, folder: Path) -> None:
    """Peak memory (KiB) of distilling so many items, then of doing so again from the cache."""
    dataset = folder / f"memory_{num_items}"
    base = peak_kib()
    for name in ("first", "again"):
        seconds = _run(dataset, KnowledgeConfig(), folder / f"out_{num_items}", name, _Instant)
        print(f"{name}: {seconds:.1f} s, started at {base} KiB")
    print(peak_kib())


def _row(
    row_id: str, value: float, data: str, *, better: Any = "lower", unit: str = "ratio", seeds: Sequence[int] = ()
) -> Row:
    return make_row(row_id, [value], unit=unit, better=better, data=data, command=COMMAND, seeds=seeds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--distil", nargs=3, metavar=("URL", "DATASET", "FOLDER"))
    parser.add_argument("--memory", nargs=2, metavar=("ITEMS", "FOLDER"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if options.distil:
        _distil(*options.distil)
    elif options.memory:
        _print_peak(int(options.memory[0]), Path(options.memory[1]))
    else:
        write_rows("knowledge", measure())
