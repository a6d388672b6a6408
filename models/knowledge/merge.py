"""The step `merge_knowledge`: the shards of a distillation become one artifact, as one worker would have made it."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import polars as pl

from contracts.artifacts import new_artifact, read_lineage
from contracts.digests import digest_value
from contracts.errors import UserError
from contracts.shards import Shard, owners
from models.knowledge.config import KnowledgeConfig
from models.knowledge.distill import (
    CARRIED_OVER,
    LEDGER_FILE,
    PAYEE,
    SHARD_KIND,
    check_coverage,
    check_invalid,
    write_ledger,
    write_metrics,
)
from models.knowledge.ledger import Ledger
from models.knowledge.records import KNOWLEDGE_FILE, RECIPE, TRACE_FILE
from models.knowledge.slabs import QUARANTINE_FILE, Catalogue, SlabWriter

_SHARED_LABELS = ("teacher", "prompt_version", RECIPE, PAYEE)


def merge_knowledge(dataset: Path, shards: Sequence[Path], config: KnowledgeConfig, *, cache: Path, out: Path) -> None:
    """Puts the shards of a catalogue together, in the catalogue's order; memory does not grow with it.

    Args:
        dataset: The dataset artifact that was distilled.
        shards: What `distill_knowledge` wrote for each shard, in any order.
        config: The gates; they look at the whole catalogue.
        cache: Folder of the caches that the shards shared; its books say what all runs paid.
        out: The artifact folder to write.

    Raises:
        UserError: the shards are not all those of this catalogue, or a gate does not let them pass.
    """
    catalogue = Catalogue(dataset)
    folders = _in_order(dataset, shards)
    inputs = {"dataset": dataset} | {f"shard_{number}": folder for number, folder in enumerate(folders)}
    lineages = [read_lineage(folder) for folder in folders]
    with (
        ExitStack() as stack,
        new_artifact(out, kind="knowledge", inputs=inputs, config=config) as artifact,
    ):
        artifact.labels.update({name: lineages[0].labels[name] for name in _SHARED_LABELS})
        writer = SlabWriter(artifact.path, artifact.labels["teacher"])
        sources = [_Source.open(folder, stack) for folder in folders]
        for number, frame in enumerate(catalogue.read(config.batch_items)):
            rows, lines = _interleave(owners(frame["item_id"], len(sources)), sources)
            assert rows["item_id"].equals(frame["item_id"]), "a shard has other items than the catalogue"
            writer.add(number, rows, lines)
        for number, folder in enumerate(folders):
            if (path := folder / QUARANTINE_FILE).is_file():
                writer.quarantine(number, pl.read_parquet(path))
        writer.join()
        books = [json.loads((folder / LEDGER_FILE).read_text(encoding="utf-8")) for folder in folders]
        write_ledger(artifact, Ledger.sum(books), cache)
        write_metrics(artifact, writer.tally, int(sum(shard.metrics[CARRIED_OVER] for shard in lineages)))
        check_invalid(writer.tally, catalogue.num_items, config)
        check_coverage(writer.tally, config)


def _in_order(dataset: Path, shards: Sequence[Path]) -> list[Path]:
    """The shards by number, once it is sure that they belong together."""
    origin = read_lineage(dataset).digest
    found: dict[str, Path] = {}
    for folder in shards:
        lineage = read_lineage(folder)
        if lineage.kind != SHARD_KIND or lineage.inputs["dataset"] != origin:
            raise UserError(f"{folder} is not a shard of the knowledge on {dataset}; distil the shards anew.")
        found[lineage.labels["shard"]] = folder
    wanted = [str(Shard(number, len(shards))) for number in range(len(shards))]
    if set(found) != set(wanted):
        raise UserError(f"shards {', '.join(sorted(found))} were given, but {', '.join(wanted)} are needed.")
    folders = [found[name] for name in wanted]
    labels = [read_lineage(folder).labels for folder in folders]
    if len({digest_value({name: label[name] for name in _SHARED_LABELS}) for label in labels}) > 1:
        raise UserError("the shards are by different teachers or prompts; distil them anew with one configuration.")
    return folders


class _Source:
    """A shard, read from its start in steps."""

    def __init__(self, table: pl.LazyFrame, lines: TextIO) -> None:
        self._table = table
        self._lines = lines
        self._start = 0

    @classmethod
    def open(cls, folder: Path, stack: ExitStack) -> "_Source":
        """Opens table and trace; the stack closes them."""
        lines = stack.enter_context((folder / TRACE_FILE).open(encoding="utf-8"))
        return cls(pl.scan_parquet(folder / KNOWLEDGE_FILE), lines)

    def take(self, num_rows: int) -> "_Rows":
        """The next rows and lines."""
        rows = self._table.slice(self._start, num_rows).collect()
        self._start += num_rows
        return _Rows(rows, list(islice(self._lines, num_rows)))


class _Rows(NamedTuple):
    table: pl.DataFrame
    lines: list[str]


def _interleave(owner: pl.Series, sources: Sequence[_Source]) -> _Rows:
    """The next rows of the catalogue, each from the shard that has it."""
    taken = [source.take(int((owner == number).sum())) for number, source in enumerate(sources)]
    # Row i of the catalogue stands at places[i] when the shards' rows are put one after another.
    places = np.argsort(np.argsort(owner.to_numpy(), kind="stable"))
    lines = [line for rows in taken for line in rows.lines]
    return _Rows(pl.concat([rows.table for rows in taken])[places], [lines[place] for place in places.tolist()])
