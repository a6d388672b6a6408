"""What the rungs of the ladder are trained from: spaces, and lists with inferred behaviors."""

from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks.knowledge.quality import prepare_inputs
from benchmarks.ranker.trials import RankerInputs
from benchmarks.shared.public_data import load_benchmark_config
from benchmarks.shared.results import digest_sources
from contracts.digests import digest_value
from feature_repo.offline.build_features import build_features
from feature_repo.offline.point_in_time_join import join_features
from models.behavior.inference.infer_behaviors import infer_behaviors
from models.behavior.training.train_behavior_model import train_behavior_model

_INFERRED = "inferred"
_NUM_SNAPSHOTS = {"scientific": 16, "electronics": 4}
"""Moments of inference where the product infers every day."""


def read_ladder_inputs(name: str, spaces: Collection[str]) -> dict[str, RankerInputs]:
    """Inputs of a data set by space; `inferred` has knowledge, and lists with inferred behaviors."""
    folder = prepare_inputs(name, tuple("knowledge" if space == _INFERRED else space for space in spaces))
    logged_inputs = {
        space: RankerInputs(folder / "training_set", folder / "dataset", folder / f"space_{space}")
        for space in spaces
        if space != _INFERRED
    }
    return logged_inputs | ({_INFERRED: _infer_behaviors(folder, name)} if _INFERRED in spaces else {})


def _infer_behaviors(folder: Path, name: str) -> RankerInputs:
    """The same lists with inferred behaviors; made once per code of the behavior model.

    It learns from the first part of the log alone, so that training lists meet inferences too.
    """
    config = load_benchmark_config(name)
    decoding = config.behavior.decoding.model_copy(update={"num_snapshots": _NUM_SNAPSHOTS[name]})
    behavior = config.behavior.model_copy(update={"decoding": decoding})
    dataset, space = folder / "dataset", folder / "space_knowledge"
    settings = behavior.model_dump(mode="json")
    inferred_folder = folder / f"inferred-{digest_value([digest_sources('models/behavior'), settings])}"
    model, inferred, features, training_set = (
        inferred_folder / name
        for name in ("behavior_model", "inferred_behaviors", "features", "training_set")
    )
    steps: dict[Path, Callable[[], object]] = {
        model: lambda: train_behavior_model(
            dataset,
            space,
            behavior,
            checkpoints=inferred_folder / "checkpoints",
            out=model,
            knowledge=folder / "knowledge",
        ),
        inferred: lambda: infer_behaviors(dataset, space, model, behavior, out=inferred),
        features: lambda: build_features(dataset, space, inferred, config.features, out=features),
        training_set: lambda: join_features(folder / "lists", features, config.features, out=training_set),
    }
    inferred_folder.mkdir(parents=True, exist_ok=True)
    for out, step in steps.items():
        if not out.exists():
            print(f"{name}: {out.name}", flush=True)
            step()
    return RankerInputs(training_set, dataset, space)
