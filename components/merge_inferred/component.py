"""Puts the shards of an inference together."""

from typing import List  # noqa: UP035 - kfp knows artifact lists by this name alone

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def merge_inferred(
    shards: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    code_version: str,
    inferred_behaviors: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Makes one table of all shards, byte for byte the one that a single worker writes.

    Args:
        shards: what `infer_behaviors` made of all shards.
        code_version: version of the library; part of the cache key.
        inferred_behaviors: one row per user and snapshot.
        metrics: users, validity, and users per second of one worker.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from models.behavior.inference.merge_inferred import merge_inferred as run

    run([Path(shard.path) for shard in shards], out=Path(inferred_behaviors.path))
    log_lineage(inferred_behaviors, metrics)
