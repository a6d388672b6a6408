"""Infers, for every user, plausible behaviors that the log does not hold."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def infer_behaviors(
    dataset: dsl.Input[dsl.Dataset],
    item_embeddings: dsl.Input[dsl.Dataset],
    behavior_model: dsl.Input[dsl.Model],
    config: str,
    shard: str,
    workspace: str,
    code_version: str,
    inferred_behaviors: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Infers a shard of the users at several moments, each from what was before; a killed step goes on.

    Args:
        dataset: the dataset artifact.
        item_embeddings: the item embeddings; their space must be the model's.
        behavior_model: the trained model.
        config: JSON of `models.behavior.config.BehaviorConfig`.
        shard: which part of the users, as number/total: `0/1` is all.
        workspace: folder that outlives the step; finished pieces lie in it until the step is done.
        code_version: version of the library; part of the cache key.
        inferred_behaviors: the shard's pieces, for `merge_inferred`.
        metrics: users, validity, speed.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from contracts.shards import Shard
    from models.behavior.config import BehaviorConfig
    from models.behavior.inference.infer_behaviors import infer_behaviors as run

    run(
        Path(dataset.path),
        Path(item_embeddings.path),
        Path(behavior_model.path),
        BehaviorConfig.model_validate_json(config),
        out=Path(inferred_behaviors.path),
        progress=Path(workspace) / "inference",
        shard=Shard.parse_shard(shard),
    )
    log_lineage(inferred_behaviors, metrics)
