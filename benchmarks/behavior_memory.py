"""Peak memory of `infer_behaviors` with ten times the users: it should not grow with them.

The model is an untrained one of the default size: what it infers does not matter here. Each inference runs in a process
of its own; the log is made in another. `measure` takes about two minutes.
"""

import argparse
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from benchmarks.memory import peak_kib
from benchmarks.results import Row, make_row
from contracts.artifacts import new_artifact, write_json, write_table
from contracts.dataset import EVENT_ORDER
from contracts.tables import EVENTS, ITEM_EMBEDDINGS, ITEMS

COMMAND = "make bench-behavior"
NUM_USERS = (10_000, 100_000)
NUM_ITEMS, EVENTS_PER_USER, VECTOR_LENGTH, NUM_CODES = 1_000, 20, 64, 32
START = datetime(2026, 1, 1, tzinfo=UTC)
CUTOFF = START + timedelta(days=100)


def measure(*, quick: bool = False) -> list[Row]:
    """The row of this part; nothing is `quick` about it."""
    if quick:
        return []
    with TemporaryDirectory() as name:
        peaks = [measure_peak_mib(Path(name), num_users) for num_users in NUM_USERS]
    users = " over ".join(f"{num_users:,}" for num_users in NUM_USERS[::-1])
    return [
        make_row(
            "behavior.memory_growth_10x",
            [peaks[1] / peaks[0]],
            unit="ratio",
            better="lower",
            data=f"{users} users, {EVENTS_PER_USER} behaviours each, {NUM_ITEMS:,} items",
            command=COMMAND,
        )
    ]


def measure_peak_mib(folder: Path, num_users: int) -> float:
    """Peak memory of inferring for so many users."""
    work = folder / str(num_users)
    for step in ("make", "infer"):
        command = [sys.executable, "-m", "benchmarks.behavior_memory", step, str(num_users), str(work)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak_mib = int(output.splitlines()[-1]) / 1024
    print(f"memory: {num_users:,} users, peak {peak_mib:.0f} MiB", flush=True)
    return peak_mib


def make_inputs(folder: Path, num_users: int) -> None:
    """Writes a random log, random embeddings and a random model."""
    from models.behavior.catalogue import read_catalogue
    from models.behavior.config import BehaviorConfig
    from models.behavior.cooccurrence import nothing
    from models.behavior.model import BehaviorModel, ModelCard, associate, save_model
    from models.behavior.network import build_denoiser

    rng = np.random.default_rng(0)
    with new_artifact(folder / "dataset", kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, _items())
        write_table(artifact.path / "events.parquet", EVENTS, _events(num_users, rng))
        write_json(
            artifact.path / "split.json",
            {name: CUTOFF.isoformat() for name in ("train_end", "validation_end", "cutoff")},
        )
    with new_artifact(folder / "item_embeddings", kind="item_embeddings", inputs={}) as artifact:
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, _embeddings(rng))
    catalogue = read_catalogue(_items(), folder / "item_embeddings")
    config = BehaviorConfig()
    denoiser = build_denoiser(catalogue, config)
    model = BehaviorModel(
        ModelCard(space="random", network=denoiser.spec, trained_until=CUTOFF),
        denoiser,
        associations=associate(denoiser, catalogue, config.decoding),
        cooccurrences=nothing(NUM_ITEMS),
    )
    with new_artifact(folder / "behavior_model", kind="behavior_model", inputs={}) as artifact:
        save_model(artifact.path, model, catalogue)


def infer(folder: Path) -> None:
    """Infers for one snapshot."""
    import torch

    from models.behavior.config import BehaviorConfig, DecodingConfig
    from models.behavior.infer import infer_behaviors

    torch.set_num_threads(1)
    config = BehaviorConfig(decoding=DecodingConfig(num_snapshots=1))
    dataset, item_embeddings, model = (folder / name for name in ("dataset", "item_embeddings", "behavior_model"))
    infer_behaviors(dataset, item_embeddings, model, config, out=folder / "inferred")


def _items() -> pl.DataFrame:
    ids = [f"i{number:05d}" for number in range(NUM_ITEMS)]
    return pl.DataFrame({"item_id": ids, "title": ids, "available_at": START})


def _events(num_users: int, rng: np.random.Generator) -> pl.DataFrame:
    rows = num_users * EVENTS_PER_USER
    events = pl.DataFrame(
        {
            "user_id": np.arange(rows) // EVENTS_PER_USER,
            "item_id": _items()["item_id"].gather(rng.integers(NUM_ITEMS, size=rows)),
            "timestamp": rng.integers(99 * 86_400_000_000, size=rows),
        }
    )
    dated = events.with_columns(
        pl.format("u{}", "user_id").alias("user_id"),
        timestamp=pl.lit(START) + pl.duration(microseconds="timestamp"),
        event_type=pl.lit("click"),
    )
    return dated.unique(EVENTS.key).sort(EVENT_ORDER)


def _embeddings(rng: np.random.Generator) -> pl.DataFrame:
    vectors = rng.standard_normal((NUM_ITEMS, VECTOR_LENGTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = np.stack([np.arange(NUM_ITEMS) // NUM_CODES, np.arange(NUM_ITEMS) % NUM_CODES], axis=1)
    return _items().select(
        "item_id",
        embedding=pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32())),
        semantic_id=pl.Series(codes.tolist(), dtype=pl.List(pl.Int32())),
        space=pl.lit("random"),
        event_timestamp=pl.lit(START),
    )


def main() -> None:
    """A step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("make", "infer"))
    parser.add_argument("num_users", type=int)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.step == "make":
        make_inputs(given.folder, given.num_users)
    else:
        infer(given.folder)
        print(peak_kib())


if __name__ == "__main__":
    main()
