"""A simulated shop, prepared: all that a ranker is trained from, and visits that judge it by the truth.

Every step lies in a folder that is named by a digest of its settings, its sources and the step before. So a
change of the code makes anew what follows from it, and nothing else.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from benchmarks.ranker.trials import RankerInputs
from benchmarks.shared.results import digest_sources
from contracts.artifacts import create_artifact, write_table
from contracts.digests import digest_value
from contracts.ingestion.ingest import ingest_dataset
from contracts.tables import CONTEXT_COLUMNS, RANKING_LISTS
from feature_repo.offline.build_features import build_features
from feature_repo.offline.point_in_time_join import join_features
from models.behavior.inference.infer_behaviors import infer_behaviors
from models.behavior.training.train_behavior_model import train_behavior_model
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.embedding.embed_items import embed_items
from models.knowledge.embedding.embed_queries import embed_queries
from models.ranker.lists.build_lists import TEST, build_lists
from pipelines.config import RunConfig
from pipelines.run_data import describe_shop_data
from simulation.config import SimulationConfig, TrafficConfig
from simulation.simulated_traffic import TrafficRequest, TrafficSimulator
from simulation.true_outcomes import RequestBatch
from simulation.write_shop import write_shop

TRUTH_PROTOCOL: Final = "truth"
NUM_VISITS: Final = 4_000
NUM_QUICK_VISITS: Final = 600


class PreparedShop(NamedTuple):
    """The artifacts of one shop."""

    name: str
    folder: Path
    """Holds all that is made of the shop, rankers too."""
    shop: Path
    dataset: Path
    space: Path
    """Item embeddings."""
    behavior_model: Path
    inferred: Path
    features: Path
    training_set: Path
    truth_set: Path
    """Visits after the log as rows of TRAINING_SET, protocol `truth`."""
    num_visits: int

    @property
    def ranker_inputs(self) -> RankerInputs:
        """What a ranker is trained from."""
        return RankerInputs(self.training_set, self.dataset, self.space)

    def draw_visits(self) -> RequestBatch:
        """The visits of `truth_set`, in its order, with all that the simulator knows of them."""
        return TrafficSimulator(self.shop, describe_visits(self.num_visits)).batch


class Step(NamedTuple):
    """One step of the preparation."""

    name: str
    sources: tuple[str, ...]
    settings: object
    make: Callable[[Path], object]
    """Writes the step's artifact into a folder."""


def describe_visits(num_visits: int) -> TrafficConfig:
    """The visits: all on the day after the log, since the simulator knows its wants."""
    return TrafficConfig(num_requests=num_visits, num_candidates=50, num_days=1.0)


def prepare_shop(name: str, config: SimulationConfig, *, num_visits: int = NUM_VISITS) -> PreparedShop:
    """Makes what is missing of a shop, from its log to its training set.

    Args:
        name: of the shop's folder; shops of other configurations may share it.
        config: the shop.
        num_visits: after the log, with 50 candidates each.
    """
    run = RunConfig(name=name, shop=config)
    paths: dict[str, Path] = {}
    steps = [
        Step(
            "shop", ("simulation",), config.model_dump(mode="json"), lambda out: write_shop(config, out=out)
        ),
        Step(
            "dataset",
            ("contracts",),
            None,
            lambda out: ingest_dataset(describe_shop_data(paths["shop"]), out=out),
        ),
        *list_model_steps(run, paths),
        *_list_truth_steps(run, paths, num_visits),
    ]
    folder = locate_loop_folder(run)
    make_steps(steps, folder, paths)
    return PreparedShop(
        name=name,
        folder=folder,
        shop=paths["shop"],
        dataset=paths["dataset"],
        space=paths["embeddings"],
        behavior_model=paths["behavior_model"],
        inferred=paths["inferred"],
        features=paths["features"],
        training_set=paths["training_set"],
        truth_set=paths["truth_set"],
        num_visits=num_visits,
    )


def locate_loop_folder(run: RunConfig) -> Path:
    """Where all that is made of a shop lies."""
    return run.home / "bench_loop"


def make_steps(steps: Sequence[Step], folder: Path, paths: dict[str, Path]) -> None:
    """Makes the steps whose artifact is missing, in their order, and enters the place of each in `paths`."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ""
    for step in steps:
        key = digest_value([key, digest_sources(*step.sources), step.settings])
        paths[step.name] = folder / f"{step.name}-{key}"
        if not paths[step.name].exists():
            print(f"{folder.parent.name}: {step.name}", flush=True)
            step.make(paths[step.name])


def list_model_steps(run: RunConfig, paths: dict[str, Path]) -> list[Step]:
    """From the step `dataset` to the step `training_set`: the pipeline's steps before the ranker."""
    settings = run.model_dump(mode="json")
    cache = locate_loop_folder(run) / "cache"
    return [
        Step(
            "knowledge",
            ("models/knowledge",),
            settings["knowledge"],
            lambda out: distill_knowledge(paths["dataset"], run.knowledge, cache=cache, out=out),
        ),
        Step(
            "embeddings",
            ("models/knowledge/embedding",),
            settings["embedding"],
            lambda out: embed_items(
                paths["dataset"], paths["knowledge"], run.embedding, out=out, cache=cache / "vectors"
            ),
        ),
        Step(
            "behavior_model",
            ("models/behavior", "models/training"),
            settings["behavior"],
            lambda out: train_behavior_model(
                paths["dataset"], paths["embeddings"], run.behavior, checkpoints=cache, out=out
            ),
        ),
        Step(
            "inferred",
            (),
            None,
            lambda out: infer_behaviors(
                paths["dataset"], paths["embeddings"], paths["behavior_model"], run.behavior, out=out
            ),
        ),
        Step(
            "features",
            ("feature_repo/offline",),
            settings["features"],
            lambda out: build_features(
                paths["dataset"], paths["embeddings"], paths["inferred"], run.features, out=out
            ),
        ),
        Step(
            "lists",
            ("models/ranker/lists",),
            run.lists.model_dump(mode="json"),
            lambda out: build_lists(paths["dataset"], run.lists, out=out),
        ),
        Step(
            "training_set",
            (),
            None,
            lambda out: _join_with_queries(run, paths, "lists", out),
        ),
    ]


def _list_truth_steps(run: RunConfig, paths: dict[str, Path], num_visits: int) -> list[Step]:
    """The visits after the log, as they are judged by the truth."""
    return [
        Step(
            "truth_lists",
            ("benchmarks/loop/prepared_shop.py",),
            num_visits,
            lambda out: write_truth_lists(paths["shop"], num_visits, out=out),
        ),
        Step(
            "truth_set",
            (),
            None,
            lambda out: _join_with_queries(run, paths, "truth_lists", out),
        ),
    ]


def _join_with_queries(run: RunConfig, paths: dict[str, Path], lists: str, out: Path) -> None:
    embed_texts = partial(embed_queries, paths["embeddings"])
    join_features(paths[lists], paths["features"], run.features, out=out, embed_texts=embed_texts)


def write_truth_lists(shop: Path, num_visits: int, *, out: Path) -> None:
    """Writes visits after the log as ranking lists."""
    lists = list_requests(list(TrafficSimulator(shop, describe_visits(num_visits)).iter_requests()))
    with create_artifact(out, kind="ranking_lists", inputs={"shop": shop}) as artifact:
        write_table(artifact.path / "ranking_lists.parquet", RANKING_LISTS, lists)


def list_requests(requests: Sequence[TrafficRequest]) -> pl.DataFrame:
    """Requests as RANKING_LISTS of protocol `truth`. All labels are false: the truth needs none."""
    rows = pl.DataFrame(
        {
            "list_id": [request.request_id for request in requests],
            "user_id": [request.user_id for request in requests],
            "timestamp": [request.timestamp for request in requests],
            "item_ids": [list(request.candidate_item_ids) for request in requests],
            **{name: [request.context.get(name) for request in requests] for name in CONTEXT_COLUMNS},
        },
        schema_overrides={
            **dict.fromkeys(CONTEXT_COLUMNS, pl.String()),
            "timestamp": pl.Datetime("us", "UTC"),
        },
    )
    nothing = pl.col("item_ids").list.eval(pl.lit(False))
    lists = rows.with_columns(
        split=pl.lit(TEST),
        protocol=pl.lit(TRUTH_PROTOCOL),
        clicks=nothing,
        orders=nothing,
        values=pl.col("item_ids").list.eval(pl.lit(0, dtype=pl.Float32)),
        propensities=pl.lit(None, pl.List(pl.Float32)),
    )
    return RANKING_LISTS.check_rows(lists)
