"""The step `distill_teacher`: a small language model learns to answer as a teacher did.

It writes a folder `model` as any other model's: safetensors with the update merged, tokenizer, chat template,
and beside them `calibration.json` for cascades and `answered_items.jsonl`, of which each question shows the
most similar item. `held_out.jsonl` holds what student and teacher say of held-out items. A killed training
goes on from its checkpoint.
"""

import json
from pathlib import Path
from typing import Any, Final

from contracts.artifacts import create_artifact, read_lineage
from contracts.errors import UserError
from contracts.progress import report_progress, report_summary
from models.knowledge.config import StudentConfig, TransformersTeacherConfig
from models.knowledge.teacher_student.answer_training import AnswerTraining
from models.knowledge.teacher_student.held_out_answers import HeldOutAnswers, answer_held_out_items
from models.knowledge.teacher_student.low_rank_update import merge_low_rank_updates
from models.knowledge.teacher_student.training_examples import (
    Example,
    Lesson,
    read_lessons,
    store_examples,
    tokenize_lessons,
)
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.compact.compact_teacher import CompactTeacher, ItemReply
from models.knowledge.teachers.model_identity import identify_model
from models.knowledge.teachers.transformers_teacher import explain_load_errors
from models.training.checkpoint import locate_checkpoint
from models.training.training_loop import SaveInterval, run_epochs

MODEL_FOLDER: Final = "model"
HELD_OUT_FILE: Final = "held_out.jsonl"
MAX_ANSWER_TOKENS: Final = 320
"""Longest answer when the student is measured; four claims a facet need about half."""
_MEASURED_BATCH: Final = 16


def distill_teacher(
    dataset: Path, knowledge: Path, config: StudentConfig, *, checkpoints: Path, out: Path
) -> None:
    """Fine-tunes a small language model on what a teacher knows, and measures it on held-out items.

    Args:
        dataset: The dataset artifact with the catalogue.
        knowledge: The knowledge artifact, of any teacher.
        config: Base model, sizes and rates.
        checkpoints: Folder that outlives the step.
        out: The artifact folder to write.

    Raises:
        UserError: the base model cannot be loaded, or there are too few items to learn from.
    """
    lessons = read_lessons(dataset, knowledge, config)
    tokenizer, model = _load_base_model(config)
    shown_examples = store_examples(lessons.training) if config.examples else None
    training, held_out = (
        _keep_fitting(tokenize_lessons(side, tokenizer, shown_examples), config.max_length)
        for side in lessons
    )
    num_left_out = len(lessons.training) + len(lessons.held_out) - len(training) - len(held_out)
    if not (training and held_out):
        raise UserError(
            f"student_lm.max_length {config.max_length}: too few questions and answers are that short; "
            "raise it"
        )
    task = AnswerTraining(model, training, held_out, config)
    checkpoint = locate_checkpoint(checkpoints, "student", [dataset, knowledge], config)
    run_epochs(
        task,
        max_epochs=config.epochs,
        checkpoint=checkpoint,
        save_interval=SaveInterval(steps=config.checkpoint_steps),
        is_writer=True,
    )
    model.cpu()
    merge_low_rank_updates(model)
    inputs = {"dataset": dataset, "knowledge": knowledge}
    with create_artifact(out, kind="student", inputs=inputs, config=config) as artifact:
        model_folder = artifact.path / MODEL_FOLDER
        model.save_pretrained(model_folder)
        tokenizer.save_pretrained(model_folder)
        if shown_examples:
            shown_examples.write(model_folder)
        measured_lessons = lessons.held_out[: config.max_measured]
        answers = answer_held_out_items(load_student(model_folder, config), measured_lessons)
        answers.calibrate().write(model_folder)
        _write_held_out_answers(artifact.path / HELD_OUT_FILE, answers)
        progress = task.state.progress
        artifact.metrics.update(
            items_trained=len(training),
            items_held_out=len(held_out),
            items_too_long=num_left_out,
            items_measured=len(measured_lessons),
            best_epoch=progress.best_epoch,
            training_loss=progress.losses[progress.best_epoch - 1],
            validation_loss=-progress.best_score,
            valid_share=answers.valid_share,
            kind_accuracy=answers.kind_accuracy,
        )
        for facet, agreement in answers.average_facets().items():
            artifact.metrics[f"agreement_{facet}"] = agreement
        artifact.labels["base_model"] = identify_model(config.base_model, config.revision)
        artifact.labels["teacher"] = read_lineage(knowledge).labels["teacher"]
        artifact.labels["student"] = identify_model(str(model_folder), None)
    report_summary(_describe_student(out / MODEL_FOLDER, artifact.metrics))


def load_student(model_folder: Path, config: StudentConfig) -> CompactTeacher:
    """The student as a teacher. Without a constraint its answers show what it has learned of the schema."""
    student = build_teacher(
        TransformersTeacherConfig(
            kind="transformers",
            model=str(model_folder),
            form="compact",
            dtype="bfloat16" if config.precision == "bfloat16" else "auto",
            max_tokens=MAX_ANSWER_TOKENS,
            batch_size=_MEASURED_BATCH,
            constrained=False,
            confidence=True,
        )
    )
    assert isinstance(student, CompactTeacher)
    return student


def _load_base_model(config: StudentConfig) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = config.base_model
    with explain_load_errors("student_lm.base_model", name):
        tokenizer = AutoTokenizer.from_pretrained(name, revision=config.revision)
        model = AutoModelForCausalLM.from_pretrained(
            name, revision=config.revision, dtype="float32", use_safetensors=True
        )
    if not tokenizer.chat_template:
        raise UserError(f"student_lm.base_model: '{name}' has no chat template; choose an instruct model.")
    return tokenizer, model


def _keep_fitting(examples: list[Example], max_length: int) -> list[Example]:
    return [example for example in examples if example.num_tokens <= max_length]


def _write_held_out_answers(path: Path, answers: HeldOutAnswers) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for number, (lesson, reply) in enumerate(zip(answers.lessons, answers.replies, strict=True)):
            stream.write(_dump_held_out_answer(lesson, reply, answers.agreements[number]))
            report_progress("measure the student", number + 1, len(answers.lessons), "items")


def _dump_held_out_answer(lesson: Lesson, reply: ItemReply, agreement: dict[str, float]) -> str:
    fields = {
        "item_id": lesson.item_id,
        "title": lesson.product.title,
        "teacher": lesson.answer.model_dump(),
        "student": reply.response.text,
        "is_valid": reply.answer is not None,
        "agreement": agreement,
        "confidence": reply.response.mean_logprob,
        "tokens_in": reply.response.tokens_in,
        "tokens_out": reply.response.tokens_out,
        "seconds": reply.response.seconds,
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _describe_student(model_folder: Path, metrics: dict[str, float]) -> list[str]:
    return [
        f"The student answered {metrics['items_measured']:.0f} held-out items: {metrics['valid_share']:.1%} "
        f"of the answers are valid, {metrics['kind_accuracy']:.1%} name the teacher's kind of product.",
        f"It is a teacher by knowledge.teacher: {{kind: transformers, form: compact, model: {model_folder}}}",
    ]
