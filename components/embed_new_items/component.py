"""Embeds a changed catalogue in a space that exists."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def embed_new_items(
    dataset: dsl.Input[dsl.Dataset],
    knowledge: dsl.Input[dsl.Dataset],
    space: dsl.Input[dsl.Dataset],
    config: str,
    workspace: str,
    code_version: str,
    item_embeddings: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Embeds every item with the projection and the code books of a space that models already use.

    Args:
        dataset: the dataset artifact with the changed catalogue.
        knowledge: the knowledge artifact of that catalogue.
        space: the item embeddings artifact whose space is kept.
        config: JSON of `models.knowledge.config.EmbeddingConfig`.
        workspace: folder that outlives the step; vectors of texts lie in it, so only new texts are encoded.
        code_version: version of the library; part of the cache key.
        item_embeddings: embedding table in the same space; known items keep their semantic ids.
        metrics: reconstruction error, new items.

    Returns:
        Address of the artifact `item_embeddings`, for the record of the deployment.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from models.knowledge.config import EmbeddingConfig
    from models.knowledge.embedding.embed_items import embed_new_items as run

    run(
        Path(dataset.path),
        Path(knowledge.path),
        EmbeddingConfig.model_validate_json(config),
        space=Path(space.path),
        out=Path(item_embeddings.path),
        cache=Path(workspace) / "vector_cache",
    )
    log_lineage(item_embeddings, metrics)
    return str(item_embeddings.uri)
