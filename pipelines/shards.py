"""Work in shards, which run at once where the backend can, and the merge of what they made: parts of several DAGs."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from components.infer_behaviors.component import infer_behaviors
from components.merge_inferred.component import merge_inferred
from components.merge_knowledge.component import merge_knowledge
from pipelines.steps import with_secrets, with_workspace


def distill_in_shards(
    component: Callable[..., Any],
    *,
    dataset: Any,
    config: str,
    shards: list[str],
    workspace: str,
    code_version: str,
    **inputs: Any,
) -> Any:
    """The artifact `knowledge` of the whole catalogue, distilled by `component`, which may want further `inputs`."""
    with dsl.ParallelFor(items=shards, name="shards") as shard:
        task = component(
            dataset=dataset, config=config, shard=shard, workspace=workspace, code_version=code_version, **inputs
        )
        distilled = with_secrets(with_workspace(task))
    merged = merge_knowledge(
        dataset=dataset,
        shards=dsl.Collected(distilled.outputs["knowledge"]),
        config=config,
        workspace=workspace,
        code_version=code_version,
    )
    return with_workspace(merged).outputs["knowledge"]


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
    """The artifact `inferred_behaviors` of all users."""
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
