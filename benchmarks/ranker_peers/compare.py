"""The product's ranker against other libraries' on the same rows: samples a second in training, and quality.

Like for like the product reads what the peers read (ids, category, brand, price) with its own network; rows of a plain
DIN, every enhancement off, and of the product with texts are there too. One thread each; seconds are processor time of
the training steps.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.knowledge_quality import RAW_LENS, RankerInputs, prepare, read_test_lists
from benchmarks.ranker_peers.batches import FIELDS, PeerRows, load_rows, save_rows, some_lists, spread_lists
from benchmarks.results import ROOT, Row, make_row
from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from models.ranker.config import IDS_ONLY, WITHOUT_KNOWLEDGE, FeatureConfig, RankerConfig
from models.ranker.lists import TEST, TRAIN, VALIDATION
from models.ranker.measure import measure as measure_scores
from models.ranker.metrics import list_metrics
from models.ranker.rows import ItemTable, encode_catalogue, encode_rows, fit_encoder, read_vectors
from models.ranker.scoring import ExportedRanker
from models.ranker.train import TRAINING_SET_FILE, train_ranker, training_protocol

COMMAND = "make bench-ranker"
PEERS = {"fuxictr": "fuxictr_din", "recbole": "recbole_sasrec"}
_NOTES = {
    "fuxictr": "FuxiCTR's DIN",
    "recbole": "RecBole's SASRec, a target with its list's candidates counted as trained on",
}
_AS_PEERS = WITHOUT_KNOWLEDGE.model_copy(update={"recency": False, "event_type": False})
_AS_THEY = "ids, category, brand and price as they read"
_PYTHON = ROOT.parent / ".venv-ranker-peers" / "bin" / "python"
_PROTOCOL, _SEED = "contemporaneous", 0
TEST_LISTS = 2_000
"""Peers score some thousand rows a second: of all test lists it would take them longer than to train."""


def measure(*, quick: bool) -> list[Row]:
    """All rows of the peers; `quick`: none, since they need an environment of their own."""
    if quick:
        return []
    if not _PYTHON.is_file():
        raise SystemExit("no environment for the peers; make it with scripts/setup.sh ranker-peers")
    return list(compare("scientific"))


def compare(name: str) -> Iterator[Row]:
    """Rows of one data set."""
    folder = prepare(name, ())
    inputs = RankerInputs(folder / "training_set", folder / "dataset", folder / "space_raw")
    with TemporaryDirectory() as scratch:
        work = Path(scratch)
        write_inputs(inputs, work)
        found = {peer: _run_peer(module, work) for peer, module in PEERS.items()}
        plain = _train(inputs, RankerConfig(features=IDS_ONLY, num_threads=1), work / "plain")
        ours = _train(inputs, RankerConfig(features=_AS_PEERS, num_threads=1), work / "ids")
        text = RankerConfig(features=FeatureConfig(inferred=False), lens_dim=RAW_LENS, num_threads=1)
        full = _train(inputs, text, work / "text")
    yield _row("ranker.train.plain_samples_per_s", plain[0], "samples/s", name, "plain DIN, every enhancement off")
    yield _row("ranker.train.ids_samples_per_s", ours[0], "samples/s", name, _AS_THEY)
    yield _row("ranker.train.text_samples_per_s", full[0], "samples/s", name, "every enhancement, raw text vectors")
    for peer, (rate, quality) in found.items():
        yield _row(f"ranker.train.{peer}_samples_per_s", rate, "samples/s", name, _NOTES[peer])
        yield _row(f"ranker.train.over_{peer}_ratio", ours[0] / rate, "ratio", name, f"{_AS_THEY}, over {peer}'s")
        yield _row(f"ranker.quality.{peer}.ndcg10", quality, "ndcg10", name, _NOTES[peer])
        yield _row(f"ranker.quality.over_{peer}.ndcg10_ratio", ours[1] / quality, "ratio", name, f"{_AS_THEY}, over it")
        yield _row(
            f"ranker.quality.plain_over_{peer}.ndcg10_ratio", plain[1] / quality, "ratio", name, "plain DIN over it"
        )
        yield _row(
            f"ranker.quality.text_over_{peer}.ndcg10_ratio", full[1] / quality, "ratio", name, "with raw text over it"
        )


def _row(row_id: str, value: float, unit: str, name: str, note: str) -> Row:
    data = f"{name}, test part, contemporaneous candidates, one thread, {note}"
    return make_row(row_id, [value], unit=unit, better="higher", data=data, command=COMMAND, seeds=[_SEED])


def write_inputs(inputs: RankerInputs, work: Path) -> None:
    """Writes the item table and the rows of each part for the peers."""
    data = read_dataset(inputs.dataset)
    vectors, _, dim = read_vectors(inputs.space)
    config = RankerConfig(features=IDS_ONLY)
    table = encode_catalogue(data.items, vectors, fit_encoder(data, config, dim=dim))
    fields = {name: getattr(table.features, name) for name in FIELDS}
    # Peers embed the row of an item itself, so that they know as many items apart as the product may.
    np.savez(work / "items.npz", allow_pickle=False, **fields)
    for part in (TRAIN, VALIDATION, TEST):
        rows = _rows(inputs, table, part, config, work / "scratch" / part)
        save_rows(some_lists(rows, TEST_LISTS) if part == TEST else rows, work / f"{part}.npz")


def _rows(inputs: RankerInputs, table: ItemTable, part: str, config: RankerConfig, scratch: Path) -> PeerRows:
    training_set = inputs.training_set / TRAINING_SET_FILE
    protocol = training_protocol(training_set) if part == TRAIN else _PROTOCOL
    lengths = (config.history_length, config.inferred_length)
    rows = encode_rows(training_set, table.names, split=part, protocol=protocol, lengths=lengths, scratch=scratch)
    return PeerRows(*(np.array(getattr(rows, name)) for name in PeerRows._fields))


def _run_peer(module: str, work: Path) -> tuple[float, float]:
    """Samples a second and NDCG@10 on the test lists."""
    command = [str(_PYTHON), "-m", f"{__package__}.run", module, str(work), "--seed", str(_SEED)]
    # Libraries leave logs where they are started.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT.parent)}
    subprocess.run(command, check=True, cwd=work, env=environment)
    test = load_rows(work / f"{TEST}.npz")
    with np.load(work / f"{module}.npz", allow_pickle=False) as stored:
        quality = list_metrics(stored["test"], test.clicks, test.offsets).ndcg
        return float(stored["samples"] / stored["seconds"]), float(np.nanmean(quality))


def _train(inputs: RankerInputs, config: RankerConfig, out: Path) -> tuple[float, float]:
    """The same of the product's ranker."""
    train_ranker(*inputs, config, checkpoints=out.with_suffix(".checkpoints"), out=out)
    rate = read_lineage(out).metrics["samples_per_s"]
    vectors, space, _ = read_vectors(inputs.space)
    ranker = ExportedRanker(out, read_dataset(inputs.dataset).items, vectors, space=space, num_threads=1)
    table = inputs.training_set / TRAINING_SET_FILE
    rows, users = read_test_lists(table, ranker, _PROTOCOL, out.with_suffix(".rows"))
    measured = measure_scores(rows, ranker.score(rows, batch_size=256), users)
    return rate, float(np.nanmean(measured.ndcg[spread_lists(len(rows), TEST_LISTS)]))
