"""Trains the masked-diffusion behavior model."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def train_behavior_model(
    dataset: dsl.Input[dsl.Dataset],
    item_embeddings: dsl.Input[dsl.Dataset],
    knowledge: dsl.Input[dsl.Dataset],
    config: str,
    workspace: str,
    code_version: str,
    behavior_model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Trains on behaviors before the training end only; resumes from its checkpoint after a kill.

    Args:
        dataset: the dataset artifact.
        item_embeddings: the item embeddings (semantic ids are the model's tokens).
        knowledge: the knowledge artifact, whose digest the model names; it is not read.
        config: JSON of `models.behavior.config.BehaviorConfig`.
        workspace: folder that outlives the step; checkpoints lie in it.
        code_version: version of the library; part of the cache key.
        behavior_model: weights and description.
        metrics: loss and recall on held-out behaviors.

    Returns:
        Address of the artifact `behavior_model`, for the record of the deployment.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from models.behavior.config import BehaviorConfig
    from models.behavior.training.train_behavior_model import train_behavior_model as run

    run(
        Path(dataset.path),
        Path(item_embeddings.path),
        BehaviorConfig.model_validate_json(config),
        checkpoints=Path(workspace) / "checkpoints" / "behavior",
        out=Path(behavior_model.path),
        knowledge=Path(knowledge.path),
    )
    log_lineage(behavior_model, metrics)
    return str(behavior_model.uri)
