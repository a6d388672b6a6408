"""The step `merge_knowledge`: shards of a distillation become one artifact, as of a single worker."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.artifacts import Lineage, create_artifact, read_lineage
from contracts.digests import digest_value
from contracts.errors import UserError
from contracts.shards import Shard, assign_shards
from models.knowledge.config import KnowledgeConfig
from models.knowledge.costs.cost_ledger import CostLedger
from models.knowledge.distillation.distill_knowledge import (
    CARRIED_OVER,
    LEDGER_FILE,
    PAYEE_LABEL,
    SHARD_KIND,
    check_invalid_rate,
    check_knowledge_coverage,
    report_handbook_coverage,
    write_cost_ledger,
    write_knowledge_metrics,
)
from models.knowledge.distillation.finished_records import KNOWLEDGE_FILE, RECIPE_LABEL, TRACE_FILE
from models.knowledge.distillation.item_batches import QUARANTINE_FILE, BatchWriter, CatalogueReader
from models.knowledge.teachers.teacher import RECORDED_COUNT, ROUTED_COUNT

_SHARED_LABELS = ("teacher", "prompt_version", RECIPE_LABEL, PAYEE_LABEL)


def merge_knowledge(
    dataset: Path, shards: Sequence[Path], config: KnowledgeConfig, *, cache: Path, out: Path
) -> None:
    """Puts the shards of a catalogue together, in the catalogue's order; memory does not grow with it.

    Args:
        dataset: The dataset artifact that was distilled.
        shards: What `distill_knowledge` wrote for each shard, in any order.
        config: The gates; they look at the whole catalogue.
        cache: Folder of the caches that the shards shared; its spending records say what all runs paid.
        out: The artifact folder to write.

    Raises:
        UserError: the shards are not all those of this catalogue, or a gate does not let them pass.
    """
    catalogue = CatalogueReader(dataset)
    shard_folders = _order_shard_folders(dataset, shards)
    inputs = {"dataset": dataset}
    inputs |= {
        f"shard_{shard_number}": shard_folder for shard_number, shard_folder in enumerate(shard_folders)
    }
    lineages = [read_lineage(shard_folder) for shard_folder in shard_folders]
    with (
        ExitStack() as stack,
        create_artifact(out, kind="knowledge", inputs=inputs, config=config) as artifact,
    ):
        artifact.labels.update({name: lineages[0].labels[name] for name in _SHARED_LABELS})
        batch_writer = BatchWriter(artifact.path, artifact.labels["teacher"])
        shard_readers = [_ShardReader(shard_folder, stack) for shard_folder in shard_folders]
        for batch_number, frame in enumerate(catalogue.read_item_batches()):
            shard_of_row = assign_shards(frame["item_id"], len(shard_readers))
            knowledge_rows, trace_lines = _interleave_shards(shard_of_row, shard_readers)
            assert knowledge_rows["item_id"].equals(frame["item_id"]), (
                "a shard has other items than the catalogue"
            )
            batch_writer.write_knowledge_rows(batch_number, knowledge_rows, trace_lines)
        for shard_number, shard_folder in enumerate(shard_folders):
            if (quarantine_path := shard_folder / QUARANTINE_FILE).is_file():
                batch_writer.write_quarantine_rows(shard_number, pl.read_parquet(quarantine_path))
        batch_writer.join_batch_parts()
        ledger_dicts = [
            json.loads((shard_folder / LEDGER_FILE).read_text(encoding="utf-8"))
            for shard_folder in shard_folders
        ]
        write_cost_ledger(artifact, CostLedger.sum_shard_ledgers(ledger_dicts), cache)
        write_knowledge_metrics(
            artifact, batch_writer.tally, int(sum(shard.metrics[CARRIED_OVER] for shard in lineages))
        )
        # Each shard has joined the whole catalogue, so all have counted the same.
        artifact.metrics.update(
            {name: count for name, count in lineages[0].metrics.items() if name.startswith(RECORDED_COUNT)}
        )
        artifact.metrics.update(_sum_routed_counts(lineages))
        check_invalid_rate(batch_writer.tally, catalogue.num_items, config)
        check_knowledge_coverage(batch_writer.tally, config)
        report_handbook_coverage(batch_writer.tally, config)


def _sum_routed_counts(lineages: Sequence[Lineage]) -> dict[str, float]:
    """What the cascades of all shards did together."""
    totals: dict[str, float] = {}
    for lineage in lineages:
        for name, count in lineage.metrics.items():
            if name.startswith(ROUTED_COUNT):
                totals[name] = totals.get(name, 0.0) + count
    return totals


def _order_shard_folders(dataset: Path, shards: Sequence[Path]) -> list[Path]:
    """The shards by number, once it is sure that they belong together."""
    dataset_digest = read_lineage(dataset).digest
    folders_by_shard: dict[str, Path] = {}
    for folder in shards:
        lineage = read_lineage(folder)
        if lineage.kind != SHARD_KIND or lineage.inputs["dataset"] != dataset_digest:
            raise UserError(
                f"{folder} is not a shard of the knowledge on {dataset}; distill the shards anew."
            )
        folders_by_shard[lineage.labels["shard"]] = folder
    needed_shards = [str(Shard(number, len(shards))) for number in range(len(shards))]
    if set(folders_by_shard) != set(needed_shards):
        raise UserError(
            f"shards {', '.join(sorted(folders_by_shard))} were given, "
            f"but {', '.join(needed_shards)} are needed."
        )
    ordered_folders = [folders_by_shard[name] for name in needed_shards]
    shard_labels = [read_lineage(folder).labels for folder in ordered_folders]
    # Else one table would hold answers that no single run could have given.
    if len({digest_value({name: label[name] for name in _SHARED_LABELS}) for label in shard_labels}) > 1:
        raise UserError(
            "the shards are by different teachers or prompts; distill them anew with one configuration."
        )
    return ordered_folders


class _ShardReader:
    """A shard, read from its start in steps."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Opens table and trace; the stack closes them."""
        self._table = pl.scan_parquet(folder / KNOWLEDGE_FILE)
        self._lines = stack.enter_context((folder / TRACE_FILE).open(encoding="utf-8"))
        self._next_row = 0

    def read_next_rows(self, num_rows: int) -> "_ShardRows":
        """The next rows and lines."""
        rows = self._table.slice(self._next_row, num_rows).collect()
        self._next_row += num_rows
        return _ShardRows(rows, list(islice(self._lines, num_rows)))


class _ShardRows(NamedTuple):
    table: pl.DataFrame
    lines: list[str]


def _interleave_shards(shard_of_row: pl.Series, shard_readers: Sequence[_ShardReader]) -> _ShardRows:
    """The next rows of the catalogue, each from the shard that has it."""
    taken_rows = [
        reader.read_next_rows(int((shard_of_row == number).sum()))
        for number, reader in enumerate(shard_readers)
    ]
    # Row i of the catalogue stands at catalogue_places[i] when the shards' rows are put one after another.
    catalogue_places = np.argsort(np.argsort(shard_of_row.to_numpy(), kind="stable"))
    joined_table = pl.concat([rows.table for rows in taken_rows])[catalogue_places]
    trace_lines = [line for rows in taken_rows for line in rows.lines]
    return _ShardRows(joined_table, [trace_lines[joined_place] for joined_place in catalogue_places.tolist()])
