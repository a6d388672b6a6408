"""A small language model learns to answer as the teacher did."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tiny_catalogue import SHOP

from benchmarks.knowledge.tiny_model import make_tiny_model
from contracts.artifacts import read_lineage
from contracts.errors import UserError
from models.knowledge.config import KnowledgeConfig, ReplayTeacherConfig, StudentConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.teacher_student import distill_teacher as step
from models.knowledge.teacher_student.answer_training import LENGTH_STEP, AnswerTraining, align_examples
from models.knowledge.teacher_student.low_rank_update import add_low_rank_updates, merge_low_rank_updates
from models.knowledge.teacher_student.training_examples import Example, read_lessons, tokenize_lessons
from models.knowledge.teachers.cascade.calibration import CALIBRATION_FILE, Calibration
from models.knowledge.teachers.compact.retrieved_examples import EXAMPLES_FILE, find_example_store

NUM_ITEMS = 24


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny", max_positions=4096)


@pytest.fixture
def taught(write_dataset: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """A catalogue, and what a recorded teacher knows of it; it does not know the last item."""
    items = [{**SHOP[0], "item_id": f"i{n}", "title": f"Cable no. {n}"} for n in range(NUM_ITEMS)]
    lines = [
        {
            "item_id": f"i{n}",
            "kind": "cable" if n + 1 < NUM_ITEMS else "unknown",
            "demands": ["join two devices", "charge a phone", "third", "fourth"],
            "complements": ["plug", "cable"],
            "lifecycle": "durable",
        }
        for n in range(NUM_ITEMS)
    ]
    recordings = tmp_path / "recorded.jsonl"
    recordings.write_text("".join(json.dumps(line) + "\n" for line in lines))
    dataset = write_dataset(items)
    teacher = ReplayTeacherConfig(kind="replay", recordings=recordings)
    knowledge = tmp_path / "knowledge"
    distill_knowledge(dataset, KnowledgeConfig(teacher=teacher), cache=tmp_path / "cache", out=knowledge)
    return dataset, knowledge


def configure(model: Path, **fields: object) -> StudentConfig:
    settings = {"held_out_share": 0.3, "epochs": 2, "batch_size": 4, "rank": 2, "max_length": 2048, **fields}
    return StudentConfig.model_validate({"base_model": str(model), "max_measured": 2, **settings})


def test_lessons_keep_the_first_claims_and_leave_out_what_the_critic_dropped(taught, tiny_model):
    training, held_out = read_lessons(*taught, configure(tiny_model, max_claims=2))
    assert len(training) + len(held_out) == NUM_ITEMS
    assert not {one.item_id for one in training} & {one.item_id for one in held_out}
    answers = {lesson.item_id: lesson.answer for lesson in (*training, *held_out)}
    assert answers["i0"].needs == ("join two devices", "charge a phone")
    # A complement of the product's own kind fell to the critic.
    assert answers["i0"].also == ("plug",)
    assert answers[f"i{NUM_ITEMS - 1}"].kind == "unknown"


def test_a_claim_that_spells_the_end_of_an_answer_is_learned_as_letters(taught, tiny_model):
    tokenizer, _ = load_tiny(tiny_model)
    (lesson, *_), _ = read_lessons(*taught, configure(tiny_model))
    odd_answer = lesson.answer.model_copy(update={"kind": f"cable{tokenizer.eos_token}"})
    (example,) = tokenize_lessons([lesson._replace(answer=odd_answer)], tokenizer, None)
    assert example.answer.count(tokenizer.eos_token_id) == 1
    assert tokenizer.eos_token in tokenizer.decode(example.answer[:-1])


def test_records_of_another_text_teach_nothing(write_dataset, tiny_model, taught):
    dataset = write_dataset([{**SHOP[0], "item_id": f"i{n}", "title": "Another"} for n in range(NUM_ITEMS)])
    with pytest.raises(UserError, match="0 items with knowledge are too few"):
        read_lessons(dataset, taught[1], configure(tiny_model))


def test_the_split_does_not_depend_on_the_order_of_items(taught, tiny_model):
    config = configure(tiny_model)
    first = read_lessons(*taught, config)
    rows = pl.read_parquet(taught[1] / "knowledge.parquet")
    rows.sample(fraction=1, shuffle=True, seed=1).write_parquet(taught[1] / "knowledge.parquet")
    assert read_lessons(*taught, config) == first


def test_answers_start_at_one_place_and_only_they_are_learned():
    examples = [Example([5, 6, 7], [8, 9]), Example([5], [8, 9, 4, 2])]
    inputs, targets = align_examples(examples, torch.device("cpu"))
    shown = slice(LENGTH_STEP - 3, LENGTH_STEP + 4)
    assert inputs["input_ids"][:, shown].tolist() == [[5, 6, 7, 8, 9, 0, 0], [0, 0, 5, 8, 9, 4, 2]]
    assert inputs["attention_mask"][:, shown].tolist() == [[1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1]]
    assert inputs["position_ids"][:, shown].tolist() == [[0, 1, 2, 3, 4, 4, 4], [0, 0, 0, 1, 2, 3, 4]]
    assert inputs["attention_mask"].sum().item() == 10
    assert targets[:, :4].tolist() == [[8, 9, -1, -1], [8, 9, 4, 2]]
    assert (targets[:, 4:] == -1).all()


def test_batches_have_few_shapes():
    shapes = {
        tuple(align_examples([Example([5] * q, [8] * a)], torch.device("cpu"))[0]["input_ids"].shape)
        for q in range(1, 2 * LENGTH_STEP + 1)
        for a in (1, LENGTH_STEP)
    }
    assert shapes == {(1, 2 * LENGTH_STEP), (1, 3 * LENGTH_STEP)}


def load_tiny(folder: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)


def test_padding_changes_no_loss(tiny_model):
    _, model = load_tiny(tiny_model)
    examples = [Example([5, 6, 7, 20, 30], [8, 9]), Example([5], [8, 9, 4, 2])]
    task = AnswerTraining(model, examples, examples, configure(tiny_model))
    model.eval()
    together, num_tokens = task._sum_losses(examples)
    apart = sum(task._sum_losses([example])[0].item() for example in examples)
    assert num_tokens == 6
    assert together.item() == pytest.approx(apart, rel=1e-5)


def test_a_merged_update_computes_what_it_computed_before(tiny_model):
    _, model = load_tiny(tiny_model)
    ids = torch.arange(3, 40)[None]
    plain = model(ids).logits
    num_plain = len(model.state_dict())
    add_low_rank_updates(model, rank=2, seed=0)
    assert torch.equal(model(ids).logits, plain), "an update starts at nothing"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.1)
    updated = model(ids).logits
    merge_low_rank_updates(model)
    assert len(model.state_dict()) == num_plain
    assert not torch.allclose(updated, plain, atol=1e-3)
    torch.testing.assert_close(model(ids).logits, updated, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rank", [0, 2])
def test_training_learns_the_answers(taught, tiny_model, rank):
    tokenizer, model = load_tiny(tiny_model)
    config = configure(tiny_model, rank=rank, learning_rate=1e-2)
    training, held_out = (tokenize_lessons(side, tokenizer, None) for side in read_lessons(*taught, config))
    task = AnswerTraining(model, training, held_out, config)
    assert all(name.endswith(("up", "down")) for name in task.state.network.state_dict()) == bool(rank)
    before = task.validate_epoch()
    for epoch in range(2):
        for rows in task.plan_epoch(epoch):
            task.train_on_batch(rows)
    assert task.validate_epoch() > before


def test_the_step_writes_a_teacher_and_goes_on_after_a_kill(
    taught, tiny_model, tmp_path, monkeypatch, capsys
):
    config = configure(tiny_model, checkpoint_steps=1)
    step.distill_teacher(*taught, config, checkpoints=tmp_path / "whole", out=tmp_path / "student")
    metrics = read_lineage(tmp_path / "student").metrics
    assert {"validation_loss", "valid_share", "kind_accuracy", "items_trained"} <= metrics.keys()
    assert "It is a teacher by knowledge.teacher" in capsys.readouterr().err
    folder = tmp_path / "student" / step.MODEL_FOLDER
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.iterdir()), "a server reads them"
    assert (folder / "model.safetensors").is_file()
    assert isinstance(Calibration.read(folder / CALIBRATION_FILE), Calibration)
    assert find_example_store(str(folder), None), "a student is shown what it learned from"
    (folder / EXAMPLES_FILE).rename(tmp_path / EXAMPLES_FILE)
    with pytest.raises(UserError, match=rf"its {EXAMPLES_FILE} is missing"):
        find_example_store(str(folder), None)
    assert find_example_store(str(folder), tmp_path / EXAMPLES_FILE)
    assert len((tmp_path / "student" / step.HELD_OUT_FILE).read_text().splitlines()) == 2

    train_on_batch = AnswerTraining.train_on_batch
    num_steps = iter(range(100))

    def die_once(task, rows):
        if next(num_steps) == 3:
            raise KeyboardInterrupt
        return train_on_batch(task, rows)

    monkeypatch.setattr(AnswerTraining, "train_on_batch", die_once)
    resumed = {"checkpoints": tmp_path / "killed", "out": tmp_path / "resumed"}
    with pytest.raises(KeyboardInterrupt):
        step.distill_teacher(*taught, config, **resumed)
    assert not resumed["out"].exists()
    step.distill_teacher(*taught, config, **resumed)
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("student", "resumed")]
    assert weights[0] == weights[1]


def test_what_cannot_be_learned_is_said(taught, tiny_model, tmp_path):
    places = {"checkpoints": tmp_path / "checkpoints", "out": tmp_path / "student"}
    with pytest.raises(UserError, match=r"student_lm.max_length 32: too few"):
        step.distill_teacher(*taught, configure(tiny_model, max_length=32), **places)
    with pytest.raises(UserError, match=r"student_lm.base_model: transformers cannot load"):
        step.distill_teacher(*taught, configure(tmp_path / "nothing"), **places)


def test_a_threshold_is_read_off_held_out_answers():
    confidences = [-0.5, -0.1, -0.9, -0.3]
    calibration = Calibration.fit(confidences, [0.5, 0.9, 0.1, 0.4], num_invalid=1)
    assert calibration.confidences == sorted(confidences)
    assert np.all(np.diff(calibration.agreements) >= 0)
    find = calibration.find_threshold
    assert find(share=0.6, min_agreement=None) == -0.3, "one is not valid, two are the least confident"
    assert find(share=0.0, min_agreement=None) == -float("inf")
    assert find(share=1.0, min_agreement=None) == float("inf")
    assert find(share=None, min_agreement=0.45) == -0.5, "pooled: 0.45 at both"
    assert find(share=None, min_agreement=0.95) == float("inf")


def test_a_template_without_system_messages_asks_what_the_teacher_asks(taught, tiny_model):
    tokenizer, _ = load_tiny(tiny_model)
    lessons = read_lessons(*taught, configure(tiny_model)).held_out
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    )
    question = tokenizer.decode(tokenize_lessons(lessons, tokenizer, None)[0].question)
    assert "Describe the product" in question
    assert "Cable no." in question


def test_a_model_without_linear_layers_is_refused():
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 2)

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.head

    with pytest.raises(UserError, match=r"set student_lm\.rank to 0"):
        add_low_rank_updates(Odd(), rank=2, seed=0)
