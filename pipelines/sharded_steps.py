"""Parts of several DAGs: work in shards, which run at once where the backend can, and the merge of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl

from components.infer_behaviors.component import infer_behaviors
from components.merge_inferred.component import merge_inferred
from components.merge_knowledge.component import merge_knowledge
from pipelines.step_settings import mount_workspace, pass_secrets


class DistilledKnowledge(NamedTuple):
    """The artifact `knowledge`, and its address as a parameter."""

    knowledge: Any
    uri: Any


def distill_in_shards(
    component: Callable[..., Any],
    *,
    dataset: Any,
    config: str,
    shards: list[str],
    workspace: str,
    code_version: str,
    **inputs: Any,
) -> DistilledKnowledge:
    """What is known of the whole catalogue, of which `component` distills a shard."""
    step_arguments = {"config": config, "workspace": workspace, "code_version": code_version}
    with dsl.ParallelFor(items=shards, name="shards") as shard:
        task = component(dataset=dataset, shard=shard, **inputs, **step_arguments)
        distill_task = pass_secrets(mount_workspace(task))
    distilled_shards = dsl.Collected(distill_task.outputs["knowledge"])
    merge_task = merge_knowledge(dataset=dataset, shards=distilled_shards, **step_arguments)
    outputs = mount_workspace(merge_task).outputs
    return DistilledKnowledge(outputs["knowledge"], outputs["Output"])


def infer_in_shards(*, shards: list[str], code_version: str, **inputs: Any) -> Any:
    """The artifact `inferred_behaviors` of all users. The inputs are those of `infer_behaviors`."""
    with dsl.ParallelFor(items=shards, name="user-shards") as shard:
        infer_task = mount_workspace(infer_behaviors(shard=shard, code_version=code_version, **inputs))
    inferred_shards = dsl.Collected(infer_task.outputs["inferred_behaviors"])
    return merge_inferred(shards=inferred_shards, code_version=code_version).outputs["inferred_behaviors"]
