"""A new shop does not learn from what was served of the former one."""

from pathlib import Path

import pytest

from contracts.errors import UserError
from contracts.served_log import SERVED_LOG_FOLDER
from models.knowledge.config import KnowledgeConfig, StudentConfig
from models.knowledge.teachers.build_teacher import build_teacher
from pipelines.config import load_config
from pipelines.run_data import prepare_local_data, prepare_local_knowledge, prepare_local_student


def _prepare(workspace: Path, *, seed: int) -> Path:
    sizes = ["shop.num_items=60", "shop.num_users=30", "shop.num_days=5"]
    config = load_config(None, [f"workspace={workspace}", f"shop.seed={seed}", *sizes])
    prepare_local_data(config)
    return config.home


def test_what_was_served_of_another_shop_is_set_aside(tmp_path: Path) -> None:
    home = _prepare(tmp_path, seed=1)
    for folder in (home / SERVED_LOG_FOLDER, home / "serving" / "events"):
        folder.mkdir(parents=True)
        (folder / "kept").touch()
    # The same shop, written again by other code.
    lineage_path = home / "shop" / "lineage.json"
    text = lineage_path.read_text()
    lineage_path.write_text(text.replace('"code_version": "', '"code_version": "other'))
    _prepare(tmp_path, seed=1)
    assert (home / SERVED_LOG_FOLDER / "kept").is_file()

    _prepare(tmp_path, seed=2)

    assert not (home / SERVED_LOG_FOLDER).exists()
    assert not (home / "serving" / "events").exists()
    assert len(list((home / "former_shops").glob("*/*/kept"))) == 2


def test_recorded_knowledge_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a step would be taken from the cache though the file has changed."""
    monkeypatch.chdir(tmp_path)
    config = KnowledgeConfig.model_validate({"teacher": {"kind": "replay", "recordings": "k.jsonl"}})
    with pytest.raises(UserError, match=r"k\.jsonl not found"):
        prepare_local_knowledge(config)
    prepared_configs = []
    for kind in ("jar", "lid"):
        Path("k.jsonl").write_text(f'{{"item_id": "1", "kind": "{kind}"}}\n')
        prepared_configs.append(prepare_local_knowledge(config))
    assert prepared_configs[0] != prepared_configs[1]
    assert prepared_configs[1].model_dump()["teacher"]["recordings"] == tmp_path / "k.jsonl"
    build_teacher(prepared_configs[1].teacher)
    with pytest.raises(UserError, match="it has changed"):
        build_teacher(prepared_configs[0].teacher)


def test_a_model_in_a_folder_is_known_by_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    local = {"kind": "transformers", "model": str(folder)}
    served = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "large"}
    teachers = [local, {"kind": "cascade", "share": 0.5, "student": local, "fallback": served}]
    configs = [KnowledgeConfig.model_validate({"teacher": teacher}) for teacher in teachers]
    student = StudentConfig(base_model=str(folder))
    prepared_configs = []
    for weights in ("first", "second", "second"):
        (folder / "model.safetensors").write_text(weights)
        prepared_knowledge = [prepare_local_knowledge(config) for config in configs]
        prepared_configs.append((*prepared_knowledge, prepare_local_student(student)))
    first, second, again = prepared_configs
    assert second == again
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_a_model_of_the_hub_keeps_its_revision() -> None:
    teacher = {"kind": "transformers", "model": "owner/model", "revision": "abc"}
    config = KnowledgeConfig.model_validate({"teacher": teacher})
    assert prepare_local_knowledge(config) == config
    student = StudentConfig(base_model="owner/model")
    assert prepare_local_student(student) == student
