"""What the rungs of the ladder are trained from: spaces, and lists with inferred behaviours."""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import polars as pl

from benchmarks.behavior_models import behavior_code
from benchmarks.knowledge_quality import RankerInputs, prepare
from contracts.artifacts import new_artifact, read_table, write_table
from contracts.aspects import FOLDS_FILE, describe_space, read_aspects
from contracts.digests import digest_value
from contracts.tables import ITEM_EMBEDDINGS
from feature_repo.build import build_features
from feature_repo.join import join_features
from models.behavior.infer import infer_behaviors
from models.behavior.train import train_behavior_model
from pipelines.config import load_config

_LEARNT, _INFERRED = "_learnt", "inferred"
_NUM_SNAPSHOTS = {"scientific": 16, "electronics": 4}
"""Moments of inference where the product infers every day."""


def read_inputs(name: str, spaces: Collection[str]) -> dict[str, RankerInputs]:
    """Inputs of a data set by space; `..._learnt` is one without the aspects beside the learnt one, `inferred` the one
    with knowledge and lists with inferred behaviours."""
    wanted = {"knowledge" if space == _INFERRED else space.removesuffix(_LEARNT) for space in spaces}
    folder = prepare(name, tuple(wanted))
    return {space: _infer(folder, name) if space == _INFERRED else _logged(folder, space) for space in spaces}


def _logged(folder: Path, space: str) -> RankerInputs:
    path = folder / f"space_{space}"
    if space.endswith(_LEARNT) and not path.exists():
        _keep_first_aspect(folder / f"space_{space.removesuffix(_LEARNT)}", out=path)
    return RankerInputs(folder / "training_set", folder / "dataset", path)


def _keep_first_aspect(space: Path, *, out: Path) -> None:
    """The same space without the aspects beside the learnt one; folds are of that one alone."""
    table = read_table(space / "item_embeddings.parquet", ITEM_EMBEDDINGS)
    name, length = next(iter(read_aspects(space, length=len(table["embedding"][0])).items()))
    first = table.with_columns(pl.col("embedding").list.head(length), space=pl.col("space") + "-first")
    with new_artifact(out, kind="item_embeddings", inputs={"item_embeddings": space}) as artifact:
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, first)
        describe_space(artifact.path, {"space": first["space"][0]}, {name: length})
        for folds in space.glob(FOLDS_FILE):
            shutil.copyfile(folds, artifact.path / folds.name)


def _infer(folder: Path, name: str) -> RankerInputs:
    """The same lists with behaviours inferred as the product does it; made once per code of the behaviour model.

    It learns from the first part of the log alone, so that training lists meet inferences too.
    """
    config = load_config(Path(f"configs/{name}.yaml"))
    decoding = config.behavior.decoding.model_copy(update={"num_snapshots": _NUM_SNAPSHOTS[name]})
    behavior = config.behavior.model_copy(update={"decoding": decoding})
    dataset, space = folder / "dataset", folder / "space_knowledge"
    made = folder / f"inferred-{digest_value([behavior_code(), behavior.model_dump(mode='json')])}"
    model, inferred, features, joined = (
        made / part for part in ("behavior_model", "inferred_behaviors", "features", "training_set")
    )
    steps: dict[Path, Callable[[], object]] = {
        model: lambda: train_behavior_model(
            dataset, space, behavior, checkpoints=made / "checkpoints", out=model, knowledge=folder / "knowledge"
        ),
        inferred: lambda: infer_behaviors(dataset, space, model, behavior, out=inferred),
        features: lambda: build_features(dataset, space, inferred, config.features, out=features),
        joined: lambda: join_features(folder / "lists", features, config.features, out=joined),
    }
    made.mkdir(parents=True, exist_ok=True)
    for out, step in steps.items():
        if not out.exists():
            print(f"{name}: {out.name}", flush=True)
            step()
    return RankerInputs(joined, dataset, space)
