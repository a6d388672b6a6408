"""The step that puts the shards of an inference together, as one worker would have written it."""

from collections.abc import Sequence
from pathlib import Path

from contracts.artifacts import Lineage, new_artifact, read_lineage
from contracts.digests import digest_value
from contracts.errors import UserError
from contracts.shards import Shard
from models.behavior.infer import PARTS_FOLDER, SHARD_KIND
from models.behavior.parts import join_parts


def merge_inferred(shards: Sequence[Path], *, out: Path) -> None:
    """Makes one `inferred_behaviors` artifact of all shards; memory does not grow with the number of users.

    Args:
        shards: what `infer_behaviors` wrote for each shard, in any order.
        out: the artifact to write.

    Raises:
        UserError: the shards are not all those of one inference.
    """
    lineages = [read_lineage(folder) for folder in shards]
    _refuse_strangers(shards, lineages)
    inputs = {f"shard_{lineage.labels['shard']}": folder for folder, lineage in zip(shards, lineages, strict=True)}
    with new_artifact(out, kind="inferred_behaviors", inputs=dict(sorted(inputs.items()))) as artifact:
        artifact.labels |= {name: value for name, value in lineages[0].labels.items() if name != "shard"}
        join_parts([folder / PARTS_FOLDER for folder in shards], artifact)


def _refuse_strangers(shards: Sequence[Path], lineages: Sequence[Lineage]) -> None:
    for folder, lineage in zip(shards, lineages, strict=True):
        if lineage.kind != SHARD_KIND:
            raise UserError(
                f"{folder} is a '{lineage.kind}', not a shard of inferred behaviours; infer the shards anew."
            )
    found = sorted(lineage.labels["shard"] for lineage in lineages)
    wanted = sorted(str(Shard(number, len(shards))) for number in range(len(shards)))
    if found != wanted:
        raise UserError(f"shards {', '.join(found)} were given, but {', '.join(wanted)} are needed.")
    if len({digest_value([lineage.inputs, lineage.config, lineage.code_version]) for lineage in lineages}) > 1:
        raise UserError(
            "the shards were inferred from different data, by different models or with different settings; infer them "
            "anew with one configuration."
        )
