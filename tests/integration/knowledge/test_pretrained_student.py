"""A real pretrained model learns a few answers, and then answers as a teacher in a cascade."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.artifacts import read_lineage
from models.knowledge.config import (
    CascadeTeacherConfig,
    KnowledgeConfig,
    ReplayTeacherConfig,
    StudentConfig,
    TransformersTeacherConfig,
)
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.teacher_student.distill_teacher import MODEL_FOLDER, distill_teacher

pytestmark = pytest.mark.integration
TITLES = [f"Enamel camping mug, {size} ml" for size in (200, 250, 300, 350, 400, 450, 500, 550)]


def test_a_pretrained_model_learns_and_teaches(
    write_dataset: Callable[..., Path], pretrained_model: Path, tmp_path: Path
) -> None:
    dataset = write_dataset(*TITLES)
    recordings = tmp_path / "recorded.jsonl"
    lines = [
        {"item_id": str(number), "kind": "mug", "demands": ["drink tea"]} for number in range(len(TITLES))
    ]
    recordings.write_text("".join(json.dumps(line) + "\n" for line in lines))
    large = ReplayTeacherConfig(kind="replay", recordings=recordings)
    places = {"cache": tmp_path / "cache"}
    distill_knowledge(dataset, KnowledgeConfig(teacher=large), **places, out=tmp_path / "knowledge")

    config = StudentConfig(
        base_model=str(pretrained_model), held_out_share=0.4, max_measured=1, epochs=4, batch_size=4, rank=4
    )
    out = tmp_path / "student"
    distill_teacher(dataset, tmp_path / "knowledge", config, checkpoints=tmp_path / "checkpoints", out=out)
    metrics = read_lineage(out).metrics
    assert metrics["items_measured"] == 1
    assert metrics["validation_loss"] > 0

    student = TransformersTeacherConfig(kind="transformers", model=str(out / MODEL_FOLDER), max_tokens=320)
    cascade = CascadeTeacherConfig(kind="cascade", student=student, fallback=large, share=0.5)
    teaching = KnowledgeConfig(teacher=cascade)
    distill_knowledge(dataset, teaching, **places, out=tmp_path / "taught")
    metrics = read_lineage(tmp_path / "taught").metrics
    assert metrics["cascade_items"] == len(TITLES)
    assert metrics["invalid_rate"] == 0, "what the student cannot answer the large one does"
