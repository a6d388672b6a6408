"""Batches of lists as tensors, and how the network sees them in training.

A batch represents each distinct item once and looks the result up wherever the item occurs: the same arithmetic as
the exported graph, at a fraction of the cost.

Shape legend: B batch, C candidates, H history, K inferred, U distinct items, E width, R vector, F folds,
d first aspect of a vector.
"""

# ruff: noqa: N806, N815 (shape suffixes)
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import embedding

from models.ranker.encoding import PADDING, Floats, encode_moments
from models.ranker.feed import candidate_grid
from models.ranker.network import Ranker, Views, similarities
from models.ranker.records import RankingRows
from models.ranker.rows import ItemTable

Ints = npt.NDArray[np.int64]

_BATCHES_PER_SORT = 32
_ITEMS_PER_LOOK = 65_536


class CatalogueTensors(NamedTuple):
    """The item table as tensors, one row per item."""

    fields: dict[str, Tensor]
    """`ids`, `categories`, `brands`, `price_buckets` [rows]."""
    vectors: Tensor
    """[rows, R], through the lens."""
    folds: Tensor
    """[F, rows, d] the first aspect as learnt without the users of each fold; F is 0 where there are no folds."""

    def to(self, device: torch.device) -> "CatalogueTensors":
        """The same on a device."""
        fields = {name: values.to(device) for name, values in self.fields.items()}
        return CatalogueTensors(fields, self.vectors.to(device), self.folds.to(device))


class Batch(NamedTuple):
    """Some lists."""

    candidates_BC: Tensor
    """Item rows, 0 where a list is shorter."""
    mask_BC: Tensor
    """1 where there is a candidate, else 0."""
    clicks_BC: Tensor
    orders_BC: Tensor
    values_BC: Tensor
    """Revenue of the orders."""
    history_BH: Tensor
    types_BH: Tensor
    ages_s_BH: Tensor
    inferred_BK: Tensor
    scores_BK: Tensor
    hours_B1: Tensor
    """UTC."""
    weekdays_B1: Tensor
    """Monday is 0."""
    confidences_BC: Tensor
    statistics_BCF: Tensor | None
    fold: int | None = None
    """The users' fold, in training: their items are seen as learnt without them."""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return self._each(lambda values: values.to(device))

    def take(self, rows: Tensor) -> "Batch":
        """Some of the lists."""
        return self._each(lambda values: values[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        changed: dict[str, Any] = {
            name: change(values) for name, values in self._asdict().items() if isinstance(values, Tensor)
        }
        return self._replace(**changed)


def catalogue_tensors(network: Ranker, table: ItemTable, folds: Floats | None = None) -> CatalogueTensors:
    """Item table -> tensors, its vectors seen through the network's lens (which is fixed: once is enough)."""
    fields = table.features._asdict()
    vectors = torch.from_numpy(fields.pop("vectors")).float()
    if network.lens is not None:
        vectors = torch.cat([network.lens(part) for part in torch.split(vectors, _ITEMS_PER_LOOK)])
    tensors = {name: torch.from_numpy(values) for name, values in fields.items()}
    return CatalogueTensors(tensors, vectors, torch.zeros(0) if folds is None else torch.from_numpy(folds))


def make_batch(rows: RankingRows, chosen: Ints, fold: int | None = None) -> Batch:
    """Collects lists, padded to the longest of them; likewise their histories."""
    places, filled = candidate_grid(rows, chosen)
    history, inferred = _trimmed(rows.history[chosen]), _trimmed(rows.inferred[chosen])
    length, inferred_length = history.shape[1], inferred.shape[1]
    moment = {name: torch.from_numpy(values) for name, values in encode_moments(rows.times_s[chosen, None]).items()}
    return Batch(
        candidates_BC=torch.from_numpy(np.where(filled, rows.candidates[places], PADDING).astype(np.int64)),
        mask_BC=torch.from_numpy(filled.astype(np.float32)),
        clicks_BC=torch.from_numpy((rows.clicks[places] & filled).astype(np.float32)),
        values_BC=torch.from_numpy(np.where(filled, rows.values[places], 0)),
        orders_BC=torch.from_numpy((rows.orders[places] & filled).astype(np.float32)),
        history_BH=torch.from_numpy(history),
        types_BH=torch.from_numpy(rows.history_types[chosen, :length].astype(np.int64)),
        ages_s_BH=torch.from_numpy(np.array(rows.history_ages_s[chosen, :length])),
        inferred_BK=torch.from_numpy(inferred),
        scores_BK=torch.from_numpy(np.array(rows.inferred_scores[chosen, :inferred_length])),
        hours_B1=moment["context_hour"],
        weekdays_B1=moment["context_weekday"],
        confidences_BC=torch.from_numpy(np.where(filled, rows.confidences[places], 0)),
        statistics_BCF=torch.from_numpy(rows.statistics[places]) if rows.statistics.shape[1] else None,
        fold=fold,
    )


def plan_epoch(folds: Ints, lengths: Ints, batch_size: int, rng: np.random.Generator) -> list[Ints]:
    """Batches of one pass: shuffled, each of one fold; lists of like length share a batch, as most are short.

    Args:
        folds: fold of each list's user, [N].
        lengths: of the lists' histories, [N].
        batch_size: lists per batch.
        rng: shuffles.
    """
    order = rng.permutation(len(folds))
    batches: list[Ints] = []
    for fold in np.unique(folds):
        own = order[folds[order] == fold]
        for start in range(0, len(own), _BATCHES_PER_SORT * batch_size):
            block = np.sort(own[start : start + _BATCHES_PER_SORT * batch_size])
            by_length = block[np.argsort(lengths[block], kind="stable")]
            batches += [np.sort(by_length[at : at + batch_size]) for at in range(0, len(block), batch_size)]
    return [batches[index] for index in rng.permutation(len(batches))]


def _trimmed(padded: npt.NDArray[np.int32]) -> Ints:
    """Without the columns in which every row is padding (but for one)."""
    return padded[:, : max(1, int(np.count_nonzero(padded, axis=1).max()))].astype(np.int64)


def view(network: Ranker, catalogue: CatalogueTensors, batch: Batch) -> Views:
    """Represents the batch's items."""
    features = network.features
    items_BIE = represent(network, catalogue, torch.cat([batch.candidates_BC, batch.history_BH], 1), batch.fold)
    num_candidates = batch.candidates_BC.shape[1]
    similar = inferred = inferred_similar = None
    if features.similarity:
        vectors_BCR = _look_up(catalogue, batch.candidates_BC, batch.fold)
        similar = similarities(vectors_BCR, _look_up(catalogue, batch.history_BH, batch.fold), network.aspects)
        if features.inferred:
            inferred_BKR = _look_up(catalogue, batch.inferred_BK, batch.fold)
            inferred_similar = similarities(vectors_BCR, inferred_BKR, network.aspects[:1])
    if features.inferred:
        inferred = represent(network, catalogue, batch.inferred_BK, batch.fold, only_ids=True)
    return Views(
        candidates_BCE=items_BIE[:, :num_candidates],
        history_BHE=items_BIE[:, num_candidates:],
        history_mask_BH=(batch.history_BH > 0).to(torch.float32),
        ages_s_BH=batch.ages_s_BH,
        types_BH=batch.types_BH,
        similarity_BSHC=similar,
        inferred_BKE=inferred,
        scores_BK=batch.scores_BK,
        inferred_similarity_BSKC=inferred_similar,
        confidences_BC=batch.confidences_BC if features.confidences else None,
        candidate_prices_BC=catalogue.fields["price_buckets"][batch.candidates_BC],
        history_prices_BH=catalogue.fields["price_buckets"][batch.history_BH],
        hours_B1=batch.hours_B1,
        weekdays_B1=batch.weekdays_B1,
        statistics_BCF=batch.statistics_BCF,
    )


def represent(
    network: Ranker, catalogue: CatalogueTensors, rows: Tensor, fold: int | None, *, only_ids: bool = False
) -> Tensor:
    """Item representations [*rows, E]; `only_ids` leaves out what serving does not send for inferred items."""
    distinct_U, place = torch.unique(rows, return_inverse=True)
    names = ("ids",) if only_ids else tuple(catalogue.fields)
    fields = {name: catalogue.fields[name][distinct_U] for name in names}
    if network.features.knowledge:
        fields["vectors"] = _look_up(catalogue, distinct_U, fold)
    items_UE: Tensor = network.items(fields)
    return embedding(place, items_UE)


def _look_up(catalogue: CatalogueTensors, rows: Tensor, fold: int | None) -> Tensor:
    """Vectors [*rows, R] of items, the first aspect as the fold has it."""
    vectors = embedding(rows, catalogue.vectors)
    if fold is None or not len(catalogue.folds):
        return vectors
    learnt = embedding(rows, catalogue.folds[fold])
    return torch.cat([learnt, vectors[..., learnt.shape[-1] :]], -1)
