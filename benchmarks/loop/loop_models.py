"""What serves in a loop: the first ranker, as it was or refreshed, or one that learned from the log."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.loop.prepared_shop import PreparedShop, Step, list_model_steps, make_steps
from benchmarks.loop.scored_rankers import RANKERS, describe_ranker, open_ranker, train_ranker_once
from contracts.artifacts import write_table
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.served_log import read_manifest
from contracts.tables import ITEMS
from feature_repo.offline.build_features import build_features
from models.behavior.inference.infer_behaviors import infer_behaviors
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.embedding.embed_items import embed_new_items
from models.ranker.evaluation.exported_ranker import ExportedRanker
from models.ranker.training.train_ranker import train_ranker
from pipelines.config import RunConfig
from pipelines.run_data import describe_shop_data
from serving.config import ServedLogConfig
from serving.served_log.collect_log import collect_log
from serving.served_log.log_sources import LogFiles
from simulation.living_shop import LivingShop


class ServedModel(NamedTuple):
    """A ranker and what it reads when it serves."""

    ranker: Path
    dataset: Path
    """Its catalogue."""
    space: Path
    inferred: Path
    features: Path
    """They hold the vectors of the items that pages are about."""

    def open_ranker(self) -> ExportedRanker:
        """Opens the ranker with its catalogue."""
        return open_ranker(self.ranker, self.dataset, self.space)


class LoopLog(NamedTuple):
    """The log of a loop on a morning."""

    event_log: Path
    """The gateway's files."""
    served_log: Path
    """What is collected of them."""
    living: LivingShop
    """The shop on that morning: it knows the catalogue."""


def open_first_model(prepared: PreparedShop, ranker: str) -> ServedModel:
    """The ranker that learned from the shop's own log."""
    config = describe_ranker(RANKERS[ranker])
    folder = train_ranker_once(prepared, ranker, config, training_set=prepared.training_set)
    return ServedModel(
        folder / "ranker", prepared.dataset, prepared.space, prepared.inferred, prepared.features
    )


def retrain_model(prepared: PreparedShop, log: LoopLog, round_folder: Path, ranker: str) -> ServedModel:
    """Collects what was served, and makes everything anew from catalogue, history and served log."""
    config = describe_ranker(RANKERS[ranker])
    paths: dict[str, Path] = {}
    steps = [
        _make_dataset_step(prepared, log, round_folder),
        *list_model_steps(RunConfig(name=prepared.name), paths),
        Step(
            "ranker",
            ("models/ranker",),
            config.model_dump(mode="json"),
            lambda out: train_ranker(
                paths["training_set"],
                paths["dataset"],
                paths["embeddings"],
                config,
                checkpoints=round_folder / "checkpoints",
                out=out,
            ),
        ),
    ]
    make_steps(steps, round_folder, paths)
    return _list_served(paths["ranker"], paths)


def refresh_model(
    prepared: PreparedShop, log: LoopLog, round_folder: Path, first_model: ServedModel
) -> ServedModel:
    """Leaves the models as they are; new items are embedded, and behaviors are inferred anew."""
    run, paths = RunConfig(name=prepared.name), dict[str, Path]()
    steps = [
        _make_dataset_step(prepared, log, round_folder),
        Step(
            "knowledge",
            ("models/knowledge",),
            run.knowledge.model_dump(mode="json"),
            lambda out: distill_knowledge(
                paths["dataset"], run.knowledge, cache=prepared.folder / "cache", out=out
            ),
        ),
        Step(
            "embeddings",
            (),
            run.embedding.model_dump(mode="json"),
            lambda out: embed_new_items(
                paths["dataset"],
                paths["knowledge"],
                run.embedding,
                space=prepared.space,
                out=out,
                cache=prepared.folder / "cache" / "vectors",
            ),
        ),
        Step(
            "inferred",
            ("models/behavior",),
            run.behavior.model_dump(mode="json"),
            lambda out: infer_behaviors(
                paths["dataset"], paths["embeddings"], prepared.behavior_model, run.behavior, out=out
            ),
        ),
        Step(
            "features",
            ("feature_repo/offline",),
            run.features.model_dump(mode="json"),
            lambda out: build_features(
                paths["dataset"], paths["embeddings"], paths["inferred"], run.features, out=out
            ),
        ),
    ]
    make_steps(steps, round_folder, paths)
    return _list_served(first_model.ranker, paths)


def _list_served(ranker: Path, paths: Mapping[str, Path]) -> ServedModel:
    return ServedModel(ranker, paths["dataset"], paths["embeddings"], paths["inferred"], paths["features"])


def _make_dataset_step(prepared: PreparedShop, log: LoopLog, round_folder: Path) -> Step:
    # A round that was killed has its dataset already, and does not learn from its own first days.
    return Step(
        "dataset",
        ("contracts", "serving/served_log"),
        prepared.dataset.name,
        lambda out: _collect_and_ingest(prepared, log, round_folder, out),
    )


def _collect_and_ingest(prepared: PreparedShop, log: LoopLog, round_folder: Path, out: Path) -> None:
    counts = collect_log(LogFiles(log.event_log), ServedLogConfig(), served_log=log.served_log)
    print(f"collected {counts['new_rows']:.0f} rows of {counts['days']:.0f} days so far", flush=True)
    manifest = read_manifest(log.served_log)
    assert manifest is not None
    items_path = round_folder / "items.parquet"
    write_table(items_path, ITEMS, log.living.read_items())
    data = describe_shop_data(prepared.shop)
    items = data.items.model_copy(update={"uri": str(items_path)})
    config = DataConfig(items=items, events=data.events)
    ingest_dataset(config, out=out, served_log=log.served_log, served_digest=manifest.digest)
