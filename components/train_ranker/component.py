"""Trains and exports a ranker."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def train_ranker(
    training_set: dsl.Input[dsl.Dataset],
    dataset: dsl.Input[dsl.Dataset],
    item_embeddings: dsl.Input[dsl.Dataset],
    config: str,
    workspace: str,
    code_version: str,
    ranker: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Trains, calibrates and exports to ONNX with golden rows; resumes from its checkpoint after a kill.

    Args:
        training_set: the lists with their features.
        dataset: the dataset artifact.
        item_embeddings: the item embeddings.
        config: JSON of `models.ranker.config.RankerConfig`.
        workspace: folder that outlives the step; checkpoints lie in it.
        code_version: version of the library; part of the cache key.
        ranker: ONNX model, weights, specification, golden rows.
        metrics: losses and validation figures.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from models.ranker.config import RankerConfig
    from models.ranker.training.train_ranker import train_ranker as run

    run(
        Path(training_set.path),
        Path(dataset.path),
        Path(item_embeddings.path),
        RankerConfig.model_validate_json(config),
        checkpoints=Path(workspace) / "checkpoints" / "ranker",
        out=Path(ranker.path),
    )
    log_lineage(ranker, metrics)
