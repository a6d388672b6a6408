"""What inferred behaviours, and other models of behaviour, say of the candidates of ranking lists.

Shape letters: L lists, C candidates of a list, M candidates of all lists, K inferred items, N items, d vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from benchmarks.behavior_protocol import Bools, Ints
from benchmarks.peers.log import NO_ITEM, Floats, Scorer
from contracts.tables import EVENT_TYPES
from models.behavior.catalogue import Catalogue
from models.behavior.decode import Decoder
from models.behavior.histories import EMPTY, Sequences, pack
from models.behavior.tensors import to_batch

_BLOCK = 256
NUM_LISTED = 10
"""Inferred items that a ranker is given."""


class Lists(NamedTuple):
    """Ranking lists of one part of the log, in numbers of the catalogue."""

    candidates: Ints
    """[L, C]"""
    mask: Bools
    """[L, C] is there a candidate?"""
    clicked: Ints
    """[L] place of the target."""
    users: Ints
    """[L]"""
    histories: Ints
    """[L, T] oldest first, `NO_ITEM` behind the last."""
    sequences: Sequences
    """The same as the behaviour model reads them."""


def read_lists(frame: pl.DataFrame, catalogue: Catalogue, *, max_history: int) -> Lists:
    """Reads rows of TRAINING_SET."""
    candidates = _padded(frame["item_ids"], catalogue)
    places = frame["clicks"].list.arg_max().cast(pl.Int64).to_numpy()
    newest_first = _padded(frame["history_item_ids"].list.head(max_history), catalogue)
    return Lists(
        candidates=candidates,
        mask=candidates != NO_ITEM,
        clicked=places,
        users=(frame["user_id"].rank("dense").cast(pl.Int64) - 1).to_numpy(),
        histories=_oldest_first(newest_first),
        sequences=_sequences(frame, catalogue, max_history),
    )


@dataclass(frozen=True)
class Judges:
    """Features of candidates, one [L, C] matrix each."""

    lists: Lists
    vectors: Floats
    """[N, d] of unit norm."""

    def infer(self, decoder: Decoder) -> tuple[Ints, Floats]:
        """The items inferred at the time of each list and their confidences, [L, K] each, best first."""
        items = np.full((len(self.lists.candidates), NUM_LISTED), NO_ITEM, dtype=np.int64)
        confidences = np.zeros(items.shape, np.float32)
        for rows, _ in self._blocks():
            found = self._confidences(decoder, rows).topk(NUM_LISTED, dim=1)
            items[rows], confidences[rows] = found.indices.numpy(), found.values.numpy()
        return items, confidences

    def listed(self, items: Ints, confidences: Floats) -> list[Floats]:
        """What a list of items with confidences says of each candidate.

        The candidate's confidence if it is listed, its largest cosine to the listed items and their mean by confidence.
        """
        found = [np.zeros(self.lists.candidates.shape, np.float32) for _ in range(3)]
        for rows, candidates in self._blocks():
            chosen, weights = items[rows], confidences[rows] * (items[rows] != NO_ITEM)
            same = (candidates[:, :, None] == chosen[:, None]) & (chosen != NO_ITEM)[:, None]
            cosines = np.einsum("lcd,lkd->lck", self.vectors[candidates], self.vectors[chosen])
            shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
            found[0][rows] = (same * weights[:, None]).sum(axis=2)
            found[1][rows] = np.where(chosen[:, None] != NO_ITEM, cosines, -1).max(axis=2)
            found[2][rows] = (cosines * shares[:, None]).sum(axis=2)
        return found

    def scored(self, scorer: Scorer) -> Floats:
        """A peer's score of each candidate."""
        return self._gathered(lambda rows: scorer(self.lists.histories[rows]))

    def log_probability(self, decoder: Decoder) -> Floats:
        """The behaviour model's log-confidence in each candidate."""

        def confidences(rows: slice) -> Floats:
            sequences = self.lists.sequences.rows(rows)
            excluded_bn = torch.zeros(len(sequences.items), len(self.vectors), dtype=torch.bool)
            found = decoder.confidences(to_batch(sequences), excluded_bn)
            return np.asarray(found.clamp_min(1e-12).log().numpy())

        return self._gathered(confidences)

    def listed_log_probability(self, decoder: Decoder, *, length: int) -> Floats:
        """The same, cut off below at the last of `length` inferred items: what a served list tells of a candidate."""

        def confidences(rows: slice) -> Floats:
            found_bn = self._confidences(decoder, rows)
            least_b1 = found_bn.topk(length, dim=1).values[:, -1:]
            return np.asarray(found_bn.maximum(least_b1).clamp_min(1e-12).log().numpy())

        return self._gathered(confidences)

    def parts(self, decoder: Decoder) -> list[Floats]:
        """What the transformer, the associations and the co-occurrences say of each candidate."""

        def part(number: int) -> Callable[[slice], Floats]:
            return lambda rows: np.asarray(decoder.parts(to_batch(self.lists.sequences.rows(rows)))[number].numpy())

        return [self._gathered(part(number)) for number in range(1, 4)]

    def _confidences(self, decoder: Decoder, rows: slice) -> torch.Tensor:
        """Of every item that the user has not logged."""
        batch = to_batch(self.lists.sequences.rows(rows))
        logged = torch.zeros(len(batch.items_bt), len(self.vectors), dtype=torch.bool)
        row, column = batch.valid_bt.nonzero(as_tuple=True)
        logged[row, batch.items_bt[row, column]] = True
        return decoder.confidences(batch, logged)

    def _gathered(self, score: Callable[[slice], Floats]) -> Floats:
        found = np.zeros(self.lists.candidates.shape, np.float32)
        for rows, candidates in self._blocks():
            found[rows] = np.take_along_axis(score(rows), np.maximum(candidates, 0), axis=1)
        return found

    def _blocks(self) -> list[tuple[slice, Ints]]:
        starts = range(0, len(self.lists.candidates), _BLOCK)
        slices = [slice(start, min(start + _BLOCK, len(self.lists.candidates))) for start in starts]
        return [(rows, self.lists.candidates[rows]) for rows in slices]


def _padded(ids: pl.Series, catalogue: Catalogue) -> Ints:
    """Item numbers, `NO_ITEM` behind the last; ids without an embedding are `NO_ITEM` too."""
    counts = ids.list.len().fill_null(0).to_numpy()
    filled = np.arange(max(int(counts.max()), 1)) < counts[:, None]
    names = pl.Enum(catalogue.item_ids)
    numbers = ids.filter(ids.list.len() > 0).explode().cast(names, strict=False).to_physical().cast(pl.Int64)
    found = np.full(filled.shape, NO_ITEM, dtype=np.int64)
    found[filled] = numbers.fill_null(NO_ITEM).to_numpy()
    return found


def _oldest_first(newest_first: Ints) -> Ints:
    counts = (newest_first != NO_ITEM).sum(axis=1)
    place = counts[:, None] - 1 - np.arange(newest_first.shape[1])
    return np.where(place >= 0, np.take_along_axis(newest_first, np.maximum(place, 0), axis=1), NO_ITEM)


def _sequences(frame: pl.DataFrame, catalogue: Catalogue, max_history: int) -> Sequences:
    since_s = (pl.col("timestamp") - pl.col("history_as_of")).dt.total_seconds()
    strength = {name: place + 1 for place, name in enumerate(EVENT_TYPES)}
    events = (
        frame.with_row_index("row")
        .select(
            pl.col("row").cast(pl.Int64),
            item_id="history_item_ids",
            event_type="history_event_types",
            age_s="history_ages_s",
            since_s=since_s,
        )
        .filter(pl.col("item_id").list.len() > 0)
        .explode("item_id", "event_type", "age_s")
    )
    known = catalogue.index(events).with_columns(
        pl.col("event_type").replace_strict(strength, return_dtype=pl.Int64), age_s=pl.col("age_s") + pl.col("since_s")
    )
    distinct = known.group_by("row", "item").agg(pl.col("event_type").max(), pl.col("age_s").max())
    packed = pack(distinct.sort("row", "age_s", "item", descending=[False, True, False]), len(frame), max_history)
    assert EMPTY == NO_ITEM
    return packed
