"""The product's ranker against other libraries' on the same rows: samples a second in training, and quality.

The product reads what the peers read (ids, category, brand, price) with its own network. One thread each.
Seconds are processor time of the training steps.
"""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.knowledge.quality import prepare_inputs
from benchmarks.ranker.peers.batches import FIELDS, PeerRows, load_rows, save_rows, spread_lists, take_lists
from benchmarks.ranker.trials import RankerInputs, measure_trained_ranker
from benchmarks.shared.results import REPOSITORY, Row, make_row
from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from contracts.errors import UserError
from models.ranker.config import IDS_ONLY, WITHOUT_KNOWLEDGE, RankerConfig
from models.ranker.evaluation.ranking_metrics import measure_lists
from models.ranker.inputs.item_encoder import ItemTable
from models.ranker.lists.build_lists import TEST, TRAIN, VALIDATION
from models.ranker.lists.encode_catalogue import encode_catalogue, fit_encoder, read_item_vectors
from models.ranker.lists.encode_lists import TRAINING_SET_FILE, encode_lists
from models.ranker.training.train_ranker import read_training_protocol

PEERS = {"fuxictr": "fuxictr_din", "recbole": "recbole_sasrec"}
_AS_PEERS = WITHOUT_KNOWLEDGE.model_copy(update={"recency": False, "event_type": False})
_PYTHON = REPOSITORY / ".venv-ranker-peers" / "bin" / "python"
_PROTOCOL, _SEED = "contemporaneous", 0
TEST_LISTS = 2_000
"""Peers score some thousand rows a second: of all test lists it would take them longer than to train."""


def measure_peer_rankers(*, quick: bool) -> list[Row]:
    """All rows of the peers; `quick`: none, since they need an environment of their own."""
    if quick:
        return []
    if not _PYTHON.is_file():
        raise UserError("no environment for the peers; make it with scripts/setup.sh ranker-peers")
    return list(_compare_peers("scientific"))


def _compare_peers(dataset: str) -> Iterator[Row]:
    prepared_folder = prepare_inputs(dataset, ())
    inputs = RankerInputs(*(prepared_folder / name for name in ("training_set", "dataset", "space_raw")))
    with TemporaryDirectory() as scratch:
        peer_figures = {}
        write_peer_inputs(inputs, Path(scratch))
        for peer, module in PEERS.items():
            peer_figures[peer] = _run_peer(module, Path(scratch))
        our_config = RankerConfig(features=_AS_PEERS, num_threads=1)
        our_rate, our_ndcg = _train_ours(inputs, our_config, Path(scratch) / "ids")
    data = f"{dataset}, test part, contemporaneous candidates, one thread; ids, category, brand and price"
    make_ratio_row = partial(make_row, unit="ratio", data=data, seeds=[_SEED])
    for peer, (peer_rate, peer_ndcg) in peer_figures.items():
        yield make_ratio_row(f"ranker.train.over_{peer}_ratio", our_rate / peer_rate)
        yield make_ratio_row(f"ranker.quality.over_{peer}.ndcg10_ratio", our_ndcg / peer_ndcg)


def write_peer_inputs(inputs: RankerInputs, folder: Path) -> None:
    """Writes the item table and the rows of each part of the log for the peers."""
    dataset = read_dataset(inputs.dataset)
    vectors, _, _ = read_item_vectors(inputs.space)
    config = RankerConfig(features=IDS_ONLY)
    table = encode_catalogue(dataset.items, vectors, fit_encoder(dataset, dim=0))
    fields = {name: getattr(table.encoded_items, name) for name in FIELDS}
    # Peers embed the row of an item itself, so that they know as many items apart as the product may.
    np.savez(folder / "items.npz", allow_pickle=False, **fields)
    for log_part in (TRAIN, VALIDATION, TEST):
        rows = _encode_rows(inputs, table, log_part, config, folder / "scratch" / log_part)
        save_rows(take_lists(rows, TEST_LISTS) if log_part == TEST else rows, folder / f"{log_part}.npz")


def _encode_rows(
    inputs: RankerInputs, table: ItemTable, log_part: str, config: RankerConfig, scratch: Path
) -> PeerRows:
    training_file = inputs.training_set / TRAINING_SET_FILE
    protocol = read_training_protocol(training_file) if log_part == TRAIN else _PROTOCOL
    lengths = (config.history_length, config.inferred_length)
    ranking_lists = encode_lists(
        training_file, table.item_id_enum, split=log_part, protocol=protocol, lengths=lengths, scratch=scratch
    )
    return PeerRows(*(np.array(getattr(ranking_lists, name)) for name in PeerRows._fields))


def _run_peer(module: str, folder: Path) -> tuple[float, float]:
    """Samples a second and NDCG@10 on the test lists."""
    command = [str(_PYTHON), "-m", f"{__package__}.run", module, str(folder), "--seed", str(_SEED)]
    # Libraries leave logs where they are started.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, check=True, cwd=folder, env=environment)
    test_rows = load_rows(folder / f"{TEST}.npz")
    with np.load(folder / f"{module}.npz", allow_pickle=False) as result_file:
        ndcg_of_lists = measure_lists(result_file["test"], test_rows.clicks, test_rows.offsets).ndcg
        samples_per_s = float(result_file["samples"] / result_file["seconds"])
    return samples_per_s, float(np.nanmean(ndcg_of_lists))


def _train_ours(inputs: RankerInputs, config: RankerConfig, scratch: Path) -> tuple[float, float]:
    """The same of the product's ranker."""
    ((_, measured),) = measure_trained_ranker(config, inputs, scratch, [_PROTOCOL])
    chosen_lists = spread_lists(len(measured.ndcg), TEST_LISTS)
    samples_per_s = read_lineage(scratch / "ranker").metrics["samples_per_s"]
    return samples_per_s, float(np.nanmean(measured.ndcg[chosen_lists]))
