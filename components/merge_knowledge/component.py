"""Puts the shards of a distillation together."""

from typing import List  # noqa: UP035 - kfp knows artifact lists by this name alone

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def merge_knowledge(
    dataset: dsl.Input[dsl.Dataset],
    shards: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    config: str,
    workspace: str,
    code_version: str,
    knowledge: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Makes one knowledge artifact of all shards, the same as one worker makes, and applies the gates to it.

    Args:
        dataset: the dataset artifact that was distilled.
        shards: the knowledge artifacts of all shards.
        config: JSON of `models.knowledge.config.KnowledgeConfig`.
        workspace: folder that outlives the step; the books of what all runs paid lie in it.
        code_version: version of the library; part of the cache key.
        knowledge: knowledge table, traces, ledger and quarantine of the whole catalogue.
        metrics: those of the shards taken together.

    Returns:
        Address of the artifact `knowledge`, for the record of the deployment.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from models.knowledge.config import KnowledgeConfig
    from models.knowledge.distillation.merge_knowledge import merge_knowledge as run

    run(
        Path(dataset.path),
        [Path(shard.path) for shard in shards],
        KnowledgeConfig.model_validate_json(config),
        cache=Path(workspace) / "knowledge_cache",
        out=Path(knowledge.path),
    )
    log_lineage(knowledge, metrics)
    return str(knowledge.uri)
