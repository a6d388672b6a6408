"""Distils knowledge of what is new or changed in a catalogue."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def distill_changed_items(
    dataset: dsl.Input[dsl.Dataset],
    previous: dsl.Input[dsl.Dataset],
    config: str,
    shard: str,
    workspace: str,
    code_version: str,
    knowledge: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Takes over what is known of unchanged products and lets the agents reason about the others of a shard.

    Args:
        dataset: the dataset artifact with the changed catalogue.
        previous: the knowledge artifact in service.
        config: JSON of `models.knowledge.config.KnowledgeConfig`.
        shard: which part of the catalogue, as number/total: `0/1` is all.
        workspace: folder that outlives the step; the caches lie in it, shared by all shards.
        code_version: version of the library; part of the cache key.
        knowledge: knowledge table, traces, ledger and quarantine of the shard.
        metrics: as of `distill_knowledge`; `carried_over` counts items that cost no question.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from contracts.shards import Shard
    from models.knowledge.config import KnowledgeConfig
    from models.knowledge.distillation.distill_knowledge import distill_knowledge as run

    run(
        Path(dataset.path),
        KnowledgeConfig.model_validate_json(config),
        cache=Path(workspace) / "knowledge_cache",
        previous=Path(previous.path),
        shard=Shard.parse_shard(shard),
        out=Path(knowledge.path),
    )
    log_lineage(knowledge, metrics)
