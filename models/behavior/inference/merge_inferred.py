"""The step that puts the shards of an inference together, as one worker would have written it."""

from collections.abc import Sequence
from pathlib import Path

from contracts.artifacts import Lineage, create_artifact, read_lineage
from contracts.digests import digest_value
from contracts.errors import UserError
from contracts.shards import Shard
from models.behavior.inference.finished_pieces import join_pieces
from models.behavior.inference.infer_behaviors import PIECES_FOLDER, SHARD_KIND


def merge_inferred(shards: Sequence[Path], *, out: Path) -> None:
    """Merges all shards into one `inferred_behaviors` artifact, in memory that does not grow with the users.

    Args:
        shards: what `infer_behaviors` wrote for each shard, in any order.
        out: the artifact to write.

    Raises:
        UserError: the shards are not all those of one inference.
    """
    lineages = [read_lineage(folder) for folder in shards]
    _check_one_inference(shards, lineages)
    inputs = {
        f"shard_{lineage.labels['shard']}": folder for folder, lineage in zip(shards, lineages, strict=True)
    }
    with create_artifact(out, kind="inferred_behaviors", inputs=dict(sorted(inputs.items()))) as artifact:
        artifact.labels |= {name: value for name, value in lineages[0].labels.items() if name != "shard"}
        join_pieces([folder / PIECES_FOLDER for folder in shards], artifact)


def _check_one_inference(shards: Sequence[Path], lineages: Sequence[Lineage]) -> None:
    for folder, lineage in zip(shards, lineages, strict=True):
        if lineage.kind != SHARD_KIND:
            raise UserError(
                f"{folder} is a '{lineage.kind}', not a shard of inferred behaviors; infer the shards anew."
            )
    given_shards = sorted(lineage.labels["shard"] for lineage in lineages)
    needed_shards = sorted(str(Shard(number, len(shards))) for number in range(len(shards)))
    if given_shards != needed_shards:
        raise UserError(
            f"shards {', '.join(given_shards)} were given, but {', '.join(needed_shards)} are needed."
        )
    runs = {digest_value([lineage.inputs, lineage.config, lineage.code_version]) for lineage in lineages}
    if len(runs) > 1:
        raise UserError(
            "the shards were inferred from different data, by different models or with different settings; "
            "infer them anew with one configuration."
        )
