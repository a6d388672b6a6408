"""Inference of all users' behaviours, in shards: part of several DAGs."""

from typing import Any

from kfp import dsl

from components.infer_behaviors.component import infer_behaviors
from components.merge_inferred.component import merge_inferred
from pipelines.steps import with_workspace


def infer_in_shards(
    *,
    dataset: Any,
    item_embeddings: Any,
    behavior_model: Any,
    config: str,
    shards: list[str],
    workspace: str,
    code_version: str,
) -> Any:
    """The artifact `inferred_behaviors` of all users; the shards run at once where the backend can."""
    with dsl.ParallelFor(items=shards, name="user-shards") as shard:
        inferred = with_workspace(
            infer_behaviors(
                dataset=dataset,
                item_embeddings=item_embeddings,
                behavior_model=behavior_model,
                config=config,
                shard=shard,
                workspace=workspace,
                code_version=code_version,
            )
        )
    collected = dsl.Collected(inferred.outputs["inferred_behaviors"])
    return merge_inferred(shards=collected, code_version=code_version).outputs["inferred_behaviors"]
