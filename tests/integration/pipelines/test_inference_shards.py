"""Shards of an inference as tasks of a real local run: what they make together is what one call makes."""

import sys
from pathlib import Path

import pytest
import torch
from kfp import compiler, dsl

sys.path.append(str(Path(__file__).parents[2] / "unit" / "behavior"))  # for behavior_shop

from behavior_shop import SMALL, write_shop

from contracts.artifacts import read_lineage
from models.behavior.config import BehaviorConfig
from models.behavior.inference.infer_behaviors import infer_behaviors
from models.behavior.training.train_behavior_model import train_behavior_model
from pipelines.local_runner import run_package
from pipelines.sharded_steps import infer_in_shards

pytestmark = pytest.mark.integration


@dsl.pipeline(name="infer-in-shards")
def infer_pipeline(
    dataset_uri: str, item_embeddings_uri: str, model_uri: str, config: str, shards: list[str], workspace: str
) -> dsl.Dataset:
    dataset = dsl.importer(artifact_uri=dataset_uri, artifact_class=dsl.Dataset, reimport=False)
    item_embeddings = dsl.importer(
        artifact_uri=item_embeddings_uri, artifact_class=dsl.Dataset, reimport=False
    )
    model = dsl.importer(artifact_uri=model_uri, artifact_class=dsl.Model, reimport=False)
    return infer_in_shards(
        dataset=dataset.output,
        item_embeddings=item_embeddings.output,
        behavior_model=model.output,
        config=config,
        shards=shards,
        workspace=workspace,
        code_version="test",
    )


def test_shards_run_as_tasks_and_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shop_artifacts = write_shop(tmp_path)
    behavior_config = BehaviorConfig.model_validate(SMALL | {"inference": {"num_shards": 2}})
    train_behavior_model(
        *shop_artifacts, behavior_config, checkpoints=tmp_path / "checkpoints", out=tmp_path / "model"
    )
    infer_behaviors(*shop_artifacts, tmp_path / "model", behavior_config, out=tmp_path / "whole")
    torch.set_num_threads(torch_threads)
    compiler.Compiler().compile(infer_pipeline, str(tmp_path / "infer.yaml"))
    run_arguments = {
        "dataset_uri": str(shop_artifacts.dataset),
        "item_embeddings_uri": str(shop_artifacts.item_embeddings),
        "model_uri": str(tmp_path / "model"),
        "config": behavior_config.model_dump_json(),
        "shards": ["0/2", "1/2"],
        "workspace": str(tmp_path / "workspace"),
    }
    (merged_folder,) = run_package(tmp_path / "infer.yaml", run_arguments, home=tmp_path / "home").values()
    assert not any((tmp_path / "workspace" / "inference").iterdir())
    merged_lineage, whole_lineage = (read_lineage(folder) for folder in (merged_folder, tmp_path / "whole"))
    assert merged_lineage.kind == whole_lineage.kind
    assert merged_lineage.labels == whole_lineage.labels
    assert merged_lineage.metrics["rows"] == whole_lineage.metrics["rows"]
    table_bytes = [
        (folder / "inferred_behaviors.parquet").read_bytes() for folder in (merged_folder, tmp_path / "whole")
    ]
    assert table_bytes[0] == table_bytes[1]
