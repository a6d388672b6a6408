"""Distils structured product knowledge from the catalogue with a teacher."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def distill_knowledge(
    dataset: dsl.Input[dsl.Dataset],
    config: str,
    workspace: str,
    code_version: str,
    knowledge: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Lets the agents reason about every product; each request is cached, so a killed step resumes where it was.

    Args:
        dataset: the dataset artifact.
        config: JSON of `models.knowledge.config.KnowledgeConfig`.
        workspace: folder that outlives the step; the request cache lies in it.
        code_version: version of the library; part of the cache key.
        knowledge: knowledge table, traces, ledger and quarantine.
        metrics: coverage, invalid rate, requests, tokens, money.
    """
    from pathlib import Path

    from components.support import log_lineage
    from models.knowledge.config import KnowledgeConfig
    from models.knowledge.distill import distill_knowledge as run

    run(
        Path(dataset.path),
        KnowledgeConfig.model_validate_json(config),
        cache=Path(workspace) / "knowledge_cache",
        out=Path(knowledge.path),
    )
    log_lineage(knowledge, metrics)
