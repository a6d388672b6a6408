"""A configuration says what its files hold: else a step would come from the cache though one has changed."""

from pathlib import Path
from typing import Any

import pytest

from contracts.errors import UserError
from models.knowledge.teachers.build_teacher import build_teacher
from pipelines.config import RunConfig
from pipelines.pinned_files import pin_local_files

SERVED = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "large"}


def configure(workspace: Path, **sections: Any) -> RunConfig:
    return RunConfig.model_validate({"workspace": workspace, **sections})


def test_recorded_knowledge_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = configure(tmp_path, knowledge={"teacher": {"kind": "replay", "recordings": "k.jsonl"}})
    with pytest.raises(UserError, match=r"k\.jsonl not found"):
        pin_local_files(config)
    pinned_teachers = []
    for kind in ("jar", "lid"):
        Path("k.jsonl").write_text(f'{{"item_id": "1", "kind": "{kind}"}}\n')
        pinned_teachers.append(pin_local_files(config).knowledge.teacher)
    first, second = pinned_teachers
    assert first != second
    assert second.model_dump()["recordings"] == tmp_path / "k.jsonl"
    build_teacher(second)
    with pytest.raises(UserError, match="it has changed"):
        build_teacher(first)


@pytest.mark.parametrize(
    ("file", "sections"),
    [
        ("own/concepts.yaml", {"knowledge": {"teacher": {"kind": "handbook", "folder": "own"}}}),
        ("lm/model.safetensors", {"knowledge": {"teacher": {"kind": "transformers", "model": "lm"}}}),
        ("lm/answered_items.jsonl", {"knowledge": {"teacher": {"kind": "vllm", "model": "lm"}}}),
        ("answers.jsonl", {"knowledge": {"teacher": {**SERVED, "examples": "answers.jsonl"}}}),
        (
            "calibration.json",
            {
                "knowledge": {
                    "teacher": {
                        "kind": "cascade",
                        "share": 0.5,
                        "student": SERVED,
                        "fallback": SERVED,
                        "calibration": "calibration.json",
                    }
                }
            },
        ),
        ("lm/model.safetensors", {"student_lm": {"base_model": "lm"}}),
        ("lm/model.safetensors", {"embedding": {"encoder": "lm"}}),
        ("lm/model.safetensors", {"behavior": {"network": {"pretrained": "lm"}}}),
    ],
)
def test_files_are_known_by_their_content(
    file: str, sections: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = configure(tmp_path, **sections)
    Path(file).parent.mkdir(exist_ok=True)
    pinned_configs = []
    for content in ("first", "second", "second"):
        Path(file).write_text(content)
        pinned_configs.append(pin_local_files(config))
    first, second, again = pinned_configs
    assert second == again
    assert first != second


def test_a_model_of_the_hub_keeps_its_revision(tmp_path: Path) -> None:
    teacher = {"kind": "transformers", "model": "owner/model", "revision": "abc"}
    config = configure(
        tmp_path, knowledge={"teacher": teacher}, embedding={"encoder": "owner/encoder", "revision": "def"}
    )
    assert pin_local_files(config) == config
