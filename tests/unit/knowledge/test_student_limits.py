"""What a student cannot be made of, or from, and what a changed base model means to a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_catalogue import SHOP

from benchmarks.knowledge.tiny_model import make_tiny_model
from contracts.errors import UserError
from models.knowledge.config import KnowledgeConfig, ReplayTeacherConfig, StudentConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.teacher_student import distill_teacher as step
from models.knowledge.teacher_student.training_examples import Example

NUM_ITEMS = 12


@pytest.fixture
def taught(write_dataset: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """A catalogue, and what a recorded teacher knows of it."""
    items = [{**SHOP[0], "item_id": f"i{n}", "title": f"Cable no. {n}"} for n in range(NUM_ITEMS)]
    recordings = tmp_path / "recorded.jsonl"
    lines = [{"item_id": f"i{n}", "kind": "cable", "demands": ["charge a phone"]} for n in range(NUM_ITEMS)]
    recordings.write_text("".join(json.dumps(line) + "\n" for line in lines))
    dataset, knowledge = write_dataset(items), tmp_path / "knowledge"
    teacher = ReplayTeacherConfig(kind="replay", recordings=recordings)
    distill_knowledge(dataset, KnowledgeConfig(teacher=teacher), cache=tmp_path / "cache", out=knowledge)
    return dataset, knowledge


@pytest.fixture
def base_model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "base", max_positions=2048)


def configure(base_model: Path, **fields: object) -> StudentConfig:
    settings = {"held_out_share": 0.3, "epochs": 1, "batch_size": 4, "rank": 2, "max_length": 2048, **fields}
    return StudentConfig.model_validate({"base_model": str(base_model), "max_measured": 1, **settings})


class _TrainingStartsError(Exception):
    """The training would start now."""


def find_checkpoint(taught: Any, config: StudentConfig, folder: Path, monkeypatch: Any) -> Path:
    places: list[Path] = []

    def keep_place(task: object, *, checkpoint: Path, **options: object) -> None:
        places.append(checkpoint)
        raise _TrainingStartsError

    monkeypatch.setattr(step, "run_epochs", keep_place)
    with pytest.raises(_TrainingStartsError):
        step.distill_teacher(*taught, config, checkpoints=folder, out=folder / "student")
    return places[0]


def test_a_checkpoint_of_another_base_model_in_the_same_folder_is_not_found(
    taught, base_model, tmp_path, monkeypatch
):
    config = configure(base_model)
    first = find_checkpoint(taught, config, tmp_path, monkeypatch)
    assert find_checkpoint(taught, config, tmp_path, monkeypatch) == first
    make_tiny_model(base_model, max_positions=2048, seed=1)
    assert find_checkpoint(taught, config, tmp_path, monkeypatch) != first


def test_a_training_that_diverged_makes_no_student(taught, base_model, tmp_path):
    config = configure(base_model, learning_rate=1e30)
    with pytest.raises(UserError, match=r"student_lm\.learning_rate 1e\+30: the training diverged"):
        step.distill_teacher(*taught, config, checkpoints=tmp_path, out=tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_longer_examples_than_the_base_model_reads_are_refused(taught, base_model, tmp_path):
    config = configure(base_model, max_length=2049)
    with pytest.raises(UserError, match=r"student_lm\.max_length 2049: .* reads 2048 tokens at most"):
        step.distill_teacher(*taught, config, checkpoints=tmp_path, out=tmp_path / "student")


def change_file(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def drop_end_token(text: bytes) -> bytes:
    """Then the loader makes up one, which the model does not have."""
    fields = json.loads(text)
    del fields["eos_token"]
    return json.dumps(fields).encode()


def unset_end_token(text: bytes) -> bytes:
    return json.dumps(json.loads(text) | {"eos_token": None}).encode()


def ask_for_own_code(text: bytes) -> bytes:
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    return json.dumps(json.loads(text) | {"model_type": "own", "auto_map": code}).encode()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("model.safetensors", lambda content: content[:1000], "cannot load"),
        ("model.safetensors", lambda _: b"", "cannot load"),
        ("tokenizer.json", lambda content: content[:1000], "cannot load"),
        ("tokenizer.json", lambda _: b"[]", "cannot load"),
        ("config.json", lambda _: b"[]", "cannot load"),
        ("config.json", lambda _: b'{"model_type": "nobody knows"}', "cannot load"),
        ("config.json", ask_for_own_code, "cannot load"),
        ("chat_template.jinja", lambda _: b"", "has no chat template"),
        ("tokenizer_config.json", unset_end_token, "no token that ends an answer"),
        ("tokenizer_config.json", drop_end_token, "its files are not all of one model"),
    ],
)
def test_a_damaged_base_model_is_named(
    taught, base_model, tmp_path, monkeypatch, name: str, change: Callable[[bytes], bytes], message: str
):
    def refuse_to_answer(prompt: str = "") -> str:
        pytest.fail(f"nobody is to be asked whether to run a model's own code: {prompt}")

    monkeypatch.setattr("builtins.input", refuse_to_answer)
    change_file(base_model / name, change)
    with pytest.raises(UserError, match=rf"student_lm\.base_model: .*{message}"):
        step.distill_teacher(*taught, configure(base_model), checkpoints=tmp_path, out=tmp_path / "student")


def test_answers_of_the_student_may_be_as_long_as_those_that_it_learned():
    assert step._find_longest_answer([Example([5], [8])]) == step.MAX_ANSWER_TOKENS
    assert step._find_longest_answer([Example([5], [8] * 500), Example([5], [8])]) == 500
