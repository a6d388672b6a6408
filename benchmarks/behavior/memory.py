"""Peak memory of `infer_behaviors` with ten times the users: it should not grow with them.

The model is an untrained one of the default size, since what it infers does not matter here. Each inference
runs in a process of its own, and the log is made in another. It takes about two minutes.
"""

import argparse
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from benchmarks.shared import generated_tables as tables
from benchmarks.shared.generated_tables import START
from benchmarks.shared.measured_process import read_peak_kib, run_module
from benchmarks.shared.results import Row, make_row
from contracts.artifacts import create_artifact
from contracts.dataset import EVENT_SORT_COLUMNS
from contracts.tables import EVENTS

NUM_USERS = (10_000, 100_000)
NUM_ITEMS, EVENTS_PER_USER, VECTOR_LENGTH, NUM_CODES = 1_000, 20, 64, 32
CUTOFF = START + timedelta(days=100)


def measure_memory_growth(*, quick: bool) -> list[Row]:
    """The row of memory; `quick`: none."""
    if quick:
        return []
    with TemporaryDirectory() as folder:
        few_kib, many_kib = (_measure_peak_kib(Path(folder), num_users) for num_users in NUM_USERS)
    users = " over ".join(f"{num_users:,}" for num_users in NUM_USERS[::-1])
    data = f"{users} users, {EVENTS_PER_USER} behaviors each, {NUM_ITEMS:,} items"
    growth = many_kib / few_kib
    return [make_row("behavior.memory_growth_10x", growth, unit="ratio", better="lower", data=data)]


def _measure_peak_kib(folder: Path, num_users: int) -> int:
    """Peak memory of inferring for so many users."""
    for step in ("make", "infer"):
        printed_words = run_module("benchmarks.behavior.memory", step, num_users, folder / str(num_users))
    peak_kib = int(printed_words[-1])
    print(f"memory: {num_users:,} users, peak {peak_kib / 1024:.0f} MiB", flush=True)
    return peak_kib


def write_random_inputs(folder: Path, num_users: int) -> None:
    """Writes a random log, random embeddings and a random model."""
    from models.behavior.behavior_model import (
        BehaviorModel,
        BehaviorModelCard,
        save_model,
        tabulate_associations,
    )
    from models.behavior.config import BehaviorConfig
    from models.behavior.decoding.cooccurrence import make_empty_table
    from models.behavior.network.denoiser import build_denoiser
    from models.behavior.sequences.behavior_catalogue import read_behavior_catalogue

    rng = np.random.default_rng(0)
    item_ids = tables.number_item_ids(NUM_ITEMS)
    items = pl.DataFrame({"item_id": item_ids, "title": item_ids, "available_at": START})
    tables.write_dataset(folder / "dataset", items, _make_events(num_users, rng), tables.split_at(CUTOFF))
    vectors = tables.normalize_rows(rng.standard_normal((NUM_ITEMS, VECTOR_LENGTH)).astype(np.float32))
    item_codes = np.stack([np.arange(NUM_ITEMS) // NUM_CODES, np.arange(NUM_ITEMS) % NUM_CODES], axis=1)
    tables.write_embeddings(folder, tables.make_embeddings(item_ids, vectors, codes=item_codes))
    catalogue = read_behavior_catalogue(items, folder / "item_embeddings")
    config = BehaviorConfig()
    denoiser = build_denoiser(catalogue, config)
    model = BehaviorModel(
        BehaviorModelCard(space="random", network=denoiser.spec, trained_until=CUTOFF),
        denoiser,
        associations=tabulate_associations(denoiser, catalogue),
        cooccurrences=make_empty_table(NUM_ITEMS),
    )
    with create_artifact(folder / "behavior_model", kind="behavior_model", inputs={}) as model_artifact:
        save_model(model_artifact.path, model, catalogue)


def infer_with_untrained_model(folder: Path) -> None:
    """Infers for one snapshot."""
    import torch

    from models.behavior.config import BehaviorConfig, DecodingConfig
    from models.behavior.inference.infer_behaviors import infer_behaviors

    torch.set_num_threads(1)
    config = BehaviorConfig(decoding=DecodingConfig(num_snapshots=1))
    dataset, space, model = (folder / name for name in ("dataset", "item_embeddings", "behavior_model"))
    infer_behaviors(dataset, space, model, config, out=folder / "inferred")


def _make_events(num_users: int, rng: np.random.Generator) -> pl.DataFrame:
    num_rows = num_users * EVENTS_PER_USER
    item_ids = pl.Series(tables.number_item_ids(NUM_ITEMS))
    drawn_events = pl.DataFrame(
        {
            "user_id": np.arange(num_rows) // EVENTS_PER_USER,
            "item_id": item_ids.gather(rng.integers(NUM_ITEMS, size=num_rows)),
            "timestamp": rng.integers(99 * 86_400_000_000, size=num_rows),
        }
    )
    events = drawn_events.with_columns(
        pl.format("u{}", "user_id").alias("user_id"),
        timestamp=pl.lit(START) + pl.duration(microseconds="timestamp"),
        event_type=pl.lit("click"),
    )
    return events.unique(EVENTS.key).sort(EVENT_SORT_COLUMNS)


if __name__ == "__main__":  # a step in a process of its own
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("make", "infer"))
    parser.add_argument("num_users", type=int)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.step == "make":
        write_random_inputs(arguments.folder, arguments.num_users)
    else:
        infer_with_untrained_model(arguments.folder)
        print(read_peak_kib())
