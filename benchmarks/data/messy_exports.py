"""How often a messy export goes wrong in silence: generated ones, and the small public cases.

Ten thousand exports take two cores an hour, and as many damaged ones another. REASEQ_FUZZ_EXPORTS takes
fewer.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl
import yaml

from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.public_data import PublicDataMissingError
from benchmarks.shared.results import REPOSITORY, Row, make_row
from contracts.dataset import Dataset, read_dataset
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from tests.unit.contracts.broken_files import break_files
from tests.unit.contracts.messy_logs import sort_events, write_messy_log

_NUM_LOGS: Final = int(os.environ.get("REASEQ_FUZZ_EXPORTS", "10000"))
_RIGHT, _REFUSED, _SILENT, _CRASHED = "right", "refused", "silent", "crashed"
Expectation = str | Callable[[Dataset], bool]
"""The beginning of a refusal's reason, or what the dataset must be."""


def measure_generated_exports(*, quick: bool) -> Iterator[Row]:
    """Rows of generated exports; `quick`: a hundredth of them."""
    num_logs = _NUM_LOGS // 100 if quick else _NUM_LOGS
    outcomes = run_on_all_cores(judge_export, range(num_logs))
    counts = {name: outcomes.count(name) for name in (_RIGHT, _REFUSED, _SILENT, _CRASHED)}
    print(f"{num_logs:,} exports: {counts}", flush=True)
    data = f"{num_logs:,} generated messy exports (tests/unit/contracts/messy_logs.py)"
    for name, outcome in (("silent_errors", _SILENT), ("uncaught", _CRASHED), ("refused", _REFUSED)):
        yield make_row(f"data.fuzz.{name}", counts[outcome], unit="exports", better="lower", data=data)


def measure_damaged_exports(*, quick: bool) -> Iterator[Row]:
    """Rows of exports whose bytes were damaged; `quick`: a hundredth of them."""
    num_logs = _NUM_LOGS // 100 if quick else _NUM_LOGS
    outcomes = run_on_all_cores(judge_damaged_export, range(num_logs))
    print(f"{num_logs:,} damaged exports: {Counter(outcomes)}", flush=True)
    data = f"{num_logs:,} generated exports with damaged bytes (tests/unit/contracts/broken_files.py)"
    num_crashed = outcomes.count(_CRASHED)
    yield make_row("data.damaged.uncaught", num_crashed, unit="exports", better="lower", data=data)


def judge_export(seed: int) -> str:
    """What becomes of one generated export."""
    with tempfile.TemporaryDirectory() as folder:
        messy = write_messy_log(seed, Path(folder))
        outcome = _try_ingestion(messy.data, Path(folder))
        if outcome != _RIGHT:
            return outcome
        dataset = read_dataset(Path(folder) / "out")
    events = dataset.events.with_columns(pl.col("price").round(2))
    is_right = sort_events(events.to_dicts()) == messy.events
    return _RIGHT if is_right else _SILENT


def judge_damaged_export(seed: int) -> str:
    """What becomes of one generated export with damaged bytes. What they say then nobody knows."""
    with tempfile.TemporaryDirectory() as folder:
        messy = write_messy_log(seed, Path(folder))
        damage = break_files(Path(folder), seed)
        outcome = _try_ingestion(messy.data, Path(folder))
    if outcome == _CRASHED:
        print(f"seed {seed} crashes a library: {damage}", flush=True)
    return outcome


def _try_ingestion(data: dict[str, Any], folder: Path) -> str:
    try:
        ingest_dataset(DataConfig.model_validate(data), out=folder / "out", is_told=False)
    except UserError:
        return _REFUSED
    except BaseException:
        return _CRASHED
    return _RIGHT


def _has(*, events: int, items: int = 40, users: int = 60, orders: int | None = None) -> Expectation:
    def check(dataset: Dataset) -> bool:
        is_order = dataset.events["event_type"] == "order"
        sizes = (len(dataset.events), len(dataset.items), dataset.events["user_id"].n_unique())
        return sizes == (events, items, users) and orders in (None, is_order.sum())

    return check


def _has_units(dataset: Dataset) -> bool:
    return dataset.events["quantity"].fill_null(1).sum() == 990


def _has_labels_before_outcomes(dataset: Dataset) -> bool:
    is_shown = pl.col("event_type") == "impression"
    moments = dataset.events.filter(is_shown).group_by("request_id").agg(first=pl.col("timestamp").min())
    outcomes = dataset.events.filter(~is_shown).drop_nulls("request_id").join(moments, on="request_id")
    return len(outcomes) > 0 and bool((outcomes["timestamp"] >= outcomes["first"]).all())


EXPECTED: Final[dict[str, Expectation]] = {
    "01": _has_labels_before_outcomes,
    "02": _has_labels_before_outcomes,
    "03": lambda dataset: not dataset.has_impressions,
    "05": _has(events=900, orders=18),
    "06": "data.events.event_types",
    "07": lambda dataset: dataset.events["timestamp"].dt.year().unique().to_list() == [2025],
    "09": lambda dataset: dataset.split.cutoff.year == 2025 and len(dataset.events) == 899,
    "10": "table 'events': 360 of 900 rows",
    "12": "column 'user_id' holds ids as Float64",
    "13": _has(events=900),
    "14": _has(events=900, items=400),
    "16": _has(events=900),
    "20": _has(events=900),
    "21": _has(events=900),
    "23": _has(events=900),
    "24": lambda dataset: len(dataset.events) == 900 and dataset.items["price"].null_count() == 0,
    "25": _has_units,
    "26": _has(events=900),
    "28": _has(events=900),
}
"""Number of a case -> what is right."""


def measure_cases(*, quick: bool) -> Iterator[Row]:
    """The share of the public cases of ingestion that come out right.

    Raises:
        PublicDataMissingError: the cases are not on this machine.
    """
    del quick  # they are few
    folder = REPOSITORY.parent / "shared" / "cases"
    if not folder.is_dir():
        raise PublicDataMissingError(f"the cases are not at {folder}")
    results = {}
    for case in sorted(folder.glob("*/case.yaml")):
        number = case.parent.name.partition("-")[0]
        results[case.parent.name] = _judge_case(case.parent, EXPECTED[number])
        print(f"{case.parent.name}: {'right' if results[case.parent.name] else 'WRONG'}", flush=True)
    data = f"{len(results)} small public inputs that go wrong"
    yield make_row("data.cases.right", sum(results.values()) / len(results), unit="share", data=data)


def _judge_case(case: Path, expected: Expectation) -> bool:
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(case, Path(scratch) / "case"))
        os.chdir(copy)
        try:
            config = yaml.safe_load((copy / "case.yaml").read_text(encoding="utf-8"))["data"]
            ingest_dataset(DataConfig.model_validate(config), out=Path(scratch) / "out", is_told=False)
            return callable(expected) and expected(read_dataset(Path(scratch) / "out"))
        except UserError as error:
            return isinstance(expected, str) and str(error).startswith(expected)
        finally:
            os.chdir(home)
