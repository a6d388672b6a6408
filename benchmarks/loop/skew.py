"""Training-serving skew: a shop's log is told to an empty online store, and read back at each list."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.loop.prepared_shop import NUM_QUICK_VISITS, NUM_VISITS, prepare_shop
from benchmarks.loop.rankers import QUICK_SHOPS, SMALL_SHOPS
from benchmarks.shared.results import Row, make_row
from contracts.artifacts import read_table
from contracts.dataset import read_dataset
from contracts.tables import TRAINING_SET
from feature_repo.replay_skew import create_empty_store, measure_history_skew
from models.ranker.lists.encode_lists import TRAINING_SET_FILE
from pipelines.config import RunConfig


def measure_skew(*, quick: bool) -> list[Row]:
    """The largest difference between a history that a ranker trains on and the one that it is served."""
    shops, num_visits = (QUICK_SHOPS, NUM_QUICK_VISITS) if quick else (SMALL_SHOPS, NUM_VISITS)
    features = RunConfig().features
    differences, num_lists = [], 0
    for name, config in shops.items():
        prepared = prepare_shop(name, config, num_visits=num_visits)
        with TemporaryDirectory() as folder:
            create_empty_store(Path(folder) / "store", features)
            skew = measure_history_skew(
                read_table(prepared.training_set / TRAINING_SET_FILE, TRAINING_SET),
                read_dataset(prepared.dataset).behaviors,
                store=Path(folder) / "store",
                history_length=features.history_length,
            )
        print(f"{name}: {skew.num_different} of {skew.num_lists} histories differ", flush=True)
        differences.append(skew.max_difference)
        num_lists += skew.num_lists
    data = f"{num_lists:,} histories of simulated shops: items, event types and ages, SQLite store"
    seeds = [config.seed for config in shops.values()]
    return [make_row("loop.skew.max", differences, unit="s", better="lower", data=data, seeds=seeds)]
