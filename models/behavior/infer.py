"""The step that infers the behaviours which the log does not hold."""

import shutil
from pathlib import Path

from contracts.artifacts import new_artifact, read_lineage, read_table
from contracts.dataset import read_split
from contracts.digests import code_version, digest_value
from contracts.errors import UserError
from contracts.shards import Shard
from contracts.tables import ITEMS
from models.behavior.catalogue import read_catalogue
from models.behavior.cells import divide
from models.behavior.config import BehaviorConfig, DecodingConfig
from models.behavior.inference import Inference, snapshots
from models.behavior.model import load_model
from models.behavior.parts import join_parts, report, take_over

SHARD_KIND = "inferred_behaviors_shard"
PARTS_FOLDER = "parts"


def infer_behaviors(
    dataset: Path,
    item_embeddings: Path,
    behavior_model: Path,
    config: BehaviorConfig,
    *,
    out: Path,
    progress: Path | None = None,
    shard: Shard | None = None,
) -> None:
    """Writes `inferred_behaviors.parquet`: one row per user and snapshot, for every user in the log before it.

    A user without a behaviour (only impressions, or only items without an embedding) gets what the model expects of a
    user it knows nothing of: mostly what is popular at that moment. Rows are in order of snapshot, cell and user.

    Args:
        dataset: dataset artifact.
        item_embeddings: artifact of the embed step, in the model's space.
        behavior_model: artifact of `train_behavior_model`.
        config: the settings; network and training are the model's own.
        out: the artifact to write.
        progress: folder that keeps finished pieces, so that a killed run goes on; nothing is kept without it.
        shard: do only this part of the users; `merge_inferred` puts the parts together.

    Raises:
        UserError: model and embeddings are of different spaces, the model has too few positions for the slots, or
            several denoising steps are asked for in a huge catalogue.
    """
    split = read_split(dataset)
    catalogue = read_catalogue(read_table(dataset / "items.parquet", ITEMS), item_embeddings)
    model = load_model(behavior_model, catalogue, config.decoding)
    _refuse_crowding(config.decoding.num_slots, model.card.network.max_length)
    _refuse_slowness(config.decoding, len(catalogue))
    inputs = {"dataset": dataset, "item_embeddings": item_embeddings, "behavior_model": behavior_model}
    kind = SHARD_KIND if shard else "inferred_behaviors"
    with new_artifact(out, kind=kind, inputs=inputs, config=config) as artifact:
        parts = artifact.path / PARTS_FOLDER
        parts.mkdir()
        kept = progress / _run_name(inputs, config, shard) if progress else parts
        kept.mkdir(parents=True, exist_ok=True)
        moments = snapshots(model.card.trained_until, split.cutoff, config.decoding.num_snapshots)
        with divide(dataset, config.inference.events_per_cell) as cells:
            names = Inference(catalogue, model, config, cells, moments).run(kept, shard or Shard(0, 1))
        take_over(kept, names, parts)
        artifact.labels |= {"behavior_model_version": model.card.version, "space": catalogue.space}
        if shard:
            artifact.labels["shard"] = str(shard)
            report(parts.glob("*.parquet"), artifact)
        else:
            join_parts([parts], artifact)
            shutil.rmtree(parts)
    if progress:
        shutil.rmtree(kept)  # the artifact holds it all


def _refuse_crowding(num_slots: int, max_length: int) -> None:
    if num_slots >= max_length:
        raise UserError(
            f"behavior.decoding.num_slots {num_slots} leaves no position for behaviours: the model has {max_length}; "
            f"give at most {max_length - 1} or train a model with a larger max_history"
        )


def _refuse_slowness(decoding: DecodingConfig, num_items: int) -> None:
    if decoding.num_steps > 1 and num_items > decoding.max_exact_items:
        raise UserError(
            f"behavior.decoding.num_steps {decoding.num_steps} scores the whole catalogue of {num_items} items; "
            f"give 1, or raise behavior.decoding.max_exact_items (now {decoding.max_exact_items})"
        )


def _run_name(inputs: dict[str, Path], config: BehaviorConfig, shard: Shard | None) -> str:
    digests = [read_lineage(path).digest for path in inputs.values()]
    return digest_value([*digests, config.model_dump(mode="json"), code_version(), str(shard)])
