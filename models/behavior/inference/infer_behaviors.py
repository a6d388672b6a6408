"""The step that infers the behaviors which the log does not hold."""

import shutil
from pathlib import Path

from contracts.artifacts import create_artifact, read_lineage, read_table
from contracts.dataset import read_split
from contracts.digests import compute_code_version, digest_value
from contracts.errors import UserError
from contracts.shards import Shard
from contracts.tables import ITEMS
from models.behavior.behavior_model import load_model
from models.behavior.config import BehaviorConfig
from models.behavior.decoding.shortlist_decoder import needs_shortlists
from models.behavior.inference.finished_pieces import copy_pieces, join_pieces, report_tallies
from models.behavior.inference.infer_snapshot import SnapshotInference, spread_snapshots
from models.behavior.inference.user_partitions import partition_log_by_user
from models.behavior.sequences.behavior_catalogue import read_behavior_catalogue

SHARD_KIND = "inferred_behaviors_shard"
PIECES_FOLDER = "parts"


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
    """Writes `inferred_behaviors.parquet`: one row per snapshot and user in the log before it.

    A user without a behavior (only impressions, or only items without an embedding) gets what the model
    expects of a stranger: mostly what is popular at that moment. Rows are in order of snapshot, partition
    and user.

    Args:
        dataset: dataset artifact.
        item_embeddings: artifact of the embed step, in the model's space.
        behavior_model: artifact of `train_behavior_model`.
        config: the settings; network and training are the model's own.
        out: the artifact to write.
        progress: folder that keeps finished pieces, so that a killed run goes on; nothing is kept without it.
        shard: do only these users; `merge_inferred` puts the shards together.

    Raises:
        UserError: model and embeddings are of different spaces, the model has too few positions for the
            slots, or several denoising steps are asked for in a huge catalogue.
    """
    split = read_split(dataset)
    catalogue = read_behavior_catalogue(read_table(dataset / "items.parquet", ITEMS), item_embeddings)
    model = load_model(behavior_model, catalogue)
    _check_slots_fit(config.decoding.num_slots, model.card.network.max_length)
    _check_steps_fit(config.decoding.num_steps, len(catalogue))
    inputs = {"dataset": dataset, "item_embeddings": item_embeddings, "behavior_model": behavior_model}
    kind = SHARD_KIND if shard else "inferred_behaviors"
    with create_artifact(out, kind=kind, inputs=inputs, config=config) as artifact:
        pieces = artifact.path / PIECES_FOLDER
        pieces.mkdir()
        work_folder = progress / _name_run(inputs, config, shard) if progress else pieces
        work_folder.mkdir(parents=True, exist_ok=True)
        moments = spread_snapshots(model.card.trained_until, split.cutoff, config.decoding.num_snapshots)
        with partition_log_by_user(dataset) as partitions:
            inference = SnapshotInference(catalogue, model, config, partitions, moments)
            piece_names = inference.write_missing_pieces(work_folder, shard or Shard(0, 1))
        copy_pieces(work_folder, piece_names, pieces)
        artifact.labels |= {"behavior_model_version": model.card.version, "space": catalogue.space}
        if shard:
            artifact.labels["shard"] = str(shard)
            report_tallies(pieces.glob("*.parquet"), artifact)
        else:
            join_pieces([pieces], artifact)
            shutil.rmtree(pieces)
    if progress:
        shutil.rmtree(work_folder)  # the artifact holds it all


def _check_slots_fit(num_slots: int, max_length: int) -> None:
    if num_slots >= max_length:
        raise UserError(
            f"behavior.decoding.num_slots {num_slots} leaves no position for behaviors: the model has "
            f"{max_length}; give at most {max_length - 1} or train a model with a larger max_history"
        )


def _check_steps_fit(num_steps: int, num_items: int) -> None:
    if num_steps > 1 and needs_shortlists(num_items):
        raise UserError(
            f"behavior.decoding.num_steps {num_steps} scores the whole catalogue, and {num_items} items are "
            "too many for that; give 1"
        )


def _name_run(inputs: dict[str, Path], config: BehaviorConfig, shard: Shard | None) -> str:
    input_digests = [read_lineage(path).digest for path in inputs.values()]
    return digest_value([*input_digests, config.model_dump(mode="json"), compute_code_version(), str(shard)])
