"""The step `distill_teacher`: a small language model learns to answer as a teacher did.

It writes a folder `model` as any other model's: safetensors with the update merged, tokenizer, chat template,
and beside them `calibration.json` for cascades and `answered_items.jsonl`, of which each question shows the
most similar item. `held_out.jsonl` holds what student and teacher say of held-out items. A killed training
goes on from its checkpoint.
"""

import json
import math
from collections.abc import Sequence
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
from models.knowledge.teachers.compact.retrieved_examples import EXAMPLES_KEY, ExampleStore
from models.knowledge.teachers.model_identity import identify_model
from models.knowledge.teachers.transformers_teacher import explain_load_errors
from models.training.checkpoint import locate_checkpoint
from models.training.training_loop import SaveInterval, run_epochs

MODEL_FOLDER: Final = "model"
HELD_OUT_FILE: Final = "held_out.jsonl"
MAX_ANSWER_TOKENS: Final = 320
"""Longest answer of a student, unless its teacher's are longer; four claims a facet need about half of it."""
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
        UserError: the base model cannot be loaded, there are too few items to learn from, or it does not
            learn.
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
    _check_vocabulary(model, [*training, *held_out], config)
    task = AnswerTraining(model, training, held_out, config)
    base_model = identify_model(config.base_model, config.revision)
    # A folder may hold another model by now. Updates of the former one would not fit.
    run_config = config.model_copy(update={"base_model": base_model})
    checkpoint = locate_checkpoint(checkpoints, "student", [dataset, knowledge], run_config)
    run_epochs(
        task,
        max_epochs=config.epochs,
        checkpoint=checkpoint,
        save_interval=SaveInterval(steps=config.checkpoint_steps),
        is_writer=True,
    )
    _check_losses(task, config)
    model.cpu()
    merge_low_rank_updates(model)
    max_tokens = _find_longest_answer([*training, *held_out])
    inputs = {"dataset": dataset, "knowledge": knowledge}
    with create_artifact(out, kind="student", inputs=inputs, config=config) as artifact:
        model_folder = artifact.path / MODEL_FOLDER
        _save_student(model, tokenizer, shown_examples, model_folder)
        measured_lessons = lessons.held_out[: config.max_measured]
        student = load_student(model_folder, config, max_tokens=max_tokens)
        answers = answer_held_out_items(student, measured_lessons)
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
        artifact.labels["base_model"] = base_model
        artifact.labels["teacher"] = read_lineage(knowledge).labels["teacher"]
        artifact.labels["student"] = identify_model(str(model_folder), None)
    report_summary(_describe_student(out / MODEL_FOLDER, artifact.metrics, max_tokens=max_tokens))


def load_student(model_folder: Path, config: StudentConfig, *, max_tokens: int) -> CompactTeacher:
    """The student as a teacher. Without a constraint its answers show what it has learned of the schema."""
    student = build_teacher(
        TransformersTeacherConfig(
            kind="transformers",
            model=str(model_folder),
            form="compact",
            dtype="bfloat16" if config.precision == "bfloat16" else "auto",
            max_tokens=max_tokens,
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
        tokenizer = AutoTokenizer.from_pretrained(name, revision=config.revision, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            name,
            revision=config.revision,
            dtype="float32",
            use_safetensors=True,
            trust_remote_code=False,
        )
    if not tokenizer.chat_template:
        raise UserError(f"student_lm.base_model: '{name}' has no chat template; choose an instruct model.")
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"student_lm.base_model: the tokenizer of '{name}' has no token that ends an answer (eos_token); "
            "choose an instruct model."
        )
    num_positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if num_positions is not None and config.max_length > num_positions:
        raise UserError(
            f"student_lm.max_length {config.max_length}: '{name}' reads {num_positions} tokens at most; "
            "lower max_length to that, or choose a model of more positions"
        )
    return tokenizer, model


def _check_vocabulary(model: Any, examples: Sequence[Example], config: StudentConfig) -> None:
    """Refuses a tokenizer of another model.

    Raises:
        UserError: it writes tokens that the model does not have.
    """
    num_tokens = model.get_input_embeddings().num_embeddings
    last_token = max(max(*example.question, *example.answer) for example in examples)
    if last_token >= num_tokens:
        raise UserError(
            f"student_lm.base_model: the tokenizer of '{config.base_model}' writes token {last_token}, but "
            f"the model has {num_tokens} tokens: its files are not all of one model"
        )


def _keep_fitting(examples: list[Example], max_length: int) -> list[Example]:
    return [example for example in examples if example.num_tokens <= max_length]


def _check_losses(task: AnswerTraining, config: StudentConfig) -> None:
    """Refuses weights that are no numbers: their answers would be noise.

    Raises:
        UserError: the training has diverged.
    """
    progress = task.state.progress
    if not all(map(math.isfinite, (*progress.losses, *progress.scores))):
        raise UserError(
            f"student_lm.learning_rate {config.learning_rate:g}: the training diverged, a loss is no number; "
            "lower it to a tenth"
        )


def _save_student(
    model: Any, tokenizer: Any, shown_examples: ExampleStore | None, model_folder: Path
) -> None:
    setattr(model.config, EXAMPLES_KEY, shown_examples is not None)
    model.save_pretrained(model_folder)
    tokenizer.save_pretrained(model_folder)
    for path in model_folder.iterdir():
        # safetensors lets the owner alone read: a server of another user could not load the student.
        path.chmod(path.stat().st_mode | 0o044)
    if shown_examples:
        shown_examples.write(model_folder)


def _find_longest_answer(examples: Sequence[Example]) -> int:
    """Tokens that a student may need; an answer that is cut off is not valid."""
    return max(MAX_ANSWER_TOKENS, *(len(example.answer) for example in examples))


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


def _describe_student(model_folder: Path, metrics: dict[str, float], *, max_tokens: int) -> list[str]:
    return [
        f"The student answered {metrics['items_measured']:.0f} held-out items: {metrics['valid_share']:.1%} "
        f"of the answers are valid, {metrics['kind_accuracy']:.1%} name the teacher's kind of product.",
        "It is a teacher by knowledge.teacher: {kind: transformers, form: compact, "
        f"max_tokens: {max_tokens}, model: {model_folder}}}",
    ]
