"""Batches of lists as tensors, and how the network sees them in training.

A batch represents each distinct item once and looks the result up wherever the item occurs. That is the
arithmetic of the exported graph at a fraction of the cost.

Shape legend: B batch, C candidates, H history, K inferred, U distinct items, I items, E width, D vector,
F folds, N lists, S aspects, A numbers of the first aspect.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from contracts.array_types import FloatArray, IntArray
from models.ranker.inputs.graph_feed import gather_lists
from models.ranker.inputs.item_encoder import ItemTable
from models.ranker.lists.mapped_lists import RankingLists
from models.ranker.network.ranker_network import Ranker, RepresentedLists
from models.ranker.network.vector_similarities import (
    compare_candidates,
    compare_with_context,
    compute_similarities,
)

_BATCHES_PER_SORT = 32


class CatalogueTensors(NamedTuple):
    """The item table as tensors, one row per item."""

    fields: dict[str, Tensor]
    """`ids`, `categories`, `brands`, `price_buckets` [I]."""
    vectors: Tensor
    """[I, D]"""
    folds: Tensor
    """[F, I, A] the first aspect as learned without the users of each fold; F is 0 without folds."""

    def move_to(self, device: torch.device) -> "CatalogueTensors":
        """The same on a device."""
        fields = {name: values.to(device) for name, values in self.fields.items()}
        return CatalogueTensors(fields, self.vectors.to(device), self.folds.to(device))


class ListBatch(NamedTuple):
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
    inferred_BK: Tensor
    inputs: dict[str, Tensor]
    """Graph inputs that lists hold themselves, by name (`inputs/input_table.py`)."""
    fold: int | None = None
    """The users' fold, in training: their items are seen as learned without them."""

    def move_to(self, device: torch.device) -> "ListBatch":
        """The same on a device."""
        return self._map_tensors(lambda values: values.to(device))

    def take_lists(self, rows: Tensor) -> "ListBatch":
        """Some of the lists."""
        return self._map_tensors(lambda values: values[rows])

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> "ListBatch":
        changed: dict[str, Any] = {
            name: change(values) for name, values in self._asdict().items() if isinstance(values, Tensor)
        }
        return self._replace(**changed, inputs={name: change(values) for name, values in self.inputs.items()})


def build_catalogue_tensors(table: ItemTable, folds: FloatArray | None = None) -> CatalogueTensors:
    """Turns an item table into tensors."""
    item_fields = table.encoded_items._asdict()
    vectors = torch.from_numpy(item_fields.pop("vectors")).float()
    tensors = {name: torch.from_numpy(values) for name, values in item_fields.items()}
    return CatalogueTensors(tensors, vectors, torch.zeros(0) if folds is None else torch.from_numpy(folds))


def make_list_batch(lists: RankingLists, chosen_rows: IntArray, fold: int | None = None) -> ListBatch:
    """Collects lists, padded to the longest of them. Histories are padded likewise."""
    gathered_lists = gather_lists(lists, chosen_rows)
    flat_rows_BC, is_real_BC = gathered_lists.flat_rows, gathered_lists.is_real
    return ListBatch(
        candidates_BC=torch.from_numpy(gathered_lists.item_rows["candidate"]),
        mask_BC=torch.from_numpy(is_real_BC.astype(np.float32)),
        clicks_BC=torch.from_numpy((lists.clicks[flat_rows_BC] & is_real_BC).astype(np.float32)),
        orders_BC=torch.from_numpy((lists.orders[flat_rows_BC] & is_real_BC).astype(np.float32)),
        values_BC=torch.from_numpy(np.where(is_real_BC, lists.values[flat_rows_BC], 0)),
        history_BH=torch.from_numpy(gathered_lists.item_rows["history"]),
        inferred_BK=torch.from_numpy(gathered_lists.item_rows["inferred"]),
        inputs={name: torch.from_numpy(values) for name, values in gathered_lists.columns.items()},
        fold=fold,
    )


def plan_batches_by_fold(
    folds: IntArray, lengths: IntArray, batch_size: int, rng: np.random.Generator
) -> list[IntArray]:
    """Plans one pass: shuffled batches, each of one fold and of like length, as most histories are short.

    Args:
        folds: fold of each list's user, [N].
        lengths: of the lists' histories, [N].
        batch_size: lists per batch.
        rng: shuffles.
    """
    shuffled_rows = rng.permutation(len(folds))
    batches: list[IntArray] = []
    for fold in np.unique(folds):
        fold_rows = shuffled_rows[folds[shuffled_rows] == fold]
        for start in range(0, len(fold_rows), _BATCHES_PER_SORT * batch_size):
            block = np.sort(fold_rows[start : start + _BATCHES_PER_SORT * batch_size])
            by_length = block[np.argsort(lengths[block], kind="stable")]
            batches += [
                np.sort(by_length[first : first + batch_size]) for first in range(0, len(block), batch_size)
            ]
    return [batches[batch_number] for batch_number in rng.permutation(len(batches))]


def represent_lists(network: Ranker, catalogue: CatalogueTensors, batch: ListBatch) -> RepresentedLists:
    """Looks up all that the network reads of a batch."""
    features = network.features
    items_BIE = represent_items(
        network, catalogue, torch.cat([batch.candidates_BC, batch.history_BH], 1), batch.fold
    )
    num_candidates = batch.candidates_BC.shape[1]
    list_similarity_BSCC = own_similarity_BSC = context_similarity_BSC = None
    similarity_BSHC = inferred_BKE = inferred_similarity_BSKC = None
    if features.similarity:
        vectors_BCD = _look_up_vectors(catalogue, batch.candidates_BC, batch.fold)
        similarity_BSHC = compute_similarities(
            vectors_BCD, _look_up_vectors(catalogue, batch.history_BH, batch.fold), network.aspects
        )
        if features.context:
            # Queries lie in the space of all users; a fold's own need not be turned the same way.
            context_similarity_BSC = compare_with_context(
                _look_up_vectors(catalogue, batch.candidates_BC, None),
                batch.inputs["context_vectors"].float(),
                network.aspects,
            )
        if features.list_composition:
            list_similarity_BSCC, own_similarity_BSC = compare_candidates(vectors_BCD, network.aspects)
        if features.inferred:
            vectors_BKD = _look_up_vectors(catalogue, batch.inferred_BK, batch.fold)
            inferred_similarity_BSKC = compute_similarities(vectors_BCD, vectors_BKD, network.aspects[:1])
    if features.inferred:
        inferred_BKE = represent_items(network, catalogue, batch.inferred_BK, batch.fold, only_ids=True)
    return RepresentedLists(
        candidates_BCE=items_BIE[:, :num_candidates],
        history_BHE=items_BIE[:, num_candidates:],
        history_mask_BH=(batch.history_BH > 0).to(torch.float32),
        inferred_BKE=inferred_BKE,
        similarity_BSHC=similarity_BSHC,
        inferred_similarity_BSKC=inferred_similarity_BSKC,
        inputs=batch.inputs,
        candidate_mask_BC=batch.mask_BC,
        candidate_fields={name: codes[batch.candidates_BC] for name, codes in catalogue.fields.items()},
        history_fields={name: codes[batch.history_BH] for name, codes in catalogue.fields.items()},
        list_similarity_BSCC=list_similarity_BSCC,
        own_similarity_BSC=own_similarity_BSC,
        context_similarity_BSC=context_similarity_BSC,
    )


def represent_items(
    network: Ranker,
    catalogue: CatalogueTensors,
    item_rows: Tensor,
    fold: int | None,
    *,
    only_ids: bool = False,
) -> Tensor:
    """Represents items [*rows, E]. `only_ids` leaves out what serving does not send for inferred items."""
    distinct_U, distinct_positions = torch.unique(item_rows, return_inverse=True)
    field_names = ("ids",) if only_ids else tuple(catalogue.fields)
    item_fields = {name: catalogue.fields[name][distinct_U] for name in field_names}
    if network.features.knowledge:
        item_fields["vectors"] = _look_up_vectors(catalogue, distinct_U, fold)
    items_UE: Tensor = network.items(item_fields)
    return embedding(distinct_positions, items_UE)


def _look_up_vectors(catalogue: CatalogueTensors, item_rows: Tensor, fold: int | None) -> Tensor:
    """Looks up vectors [*rows, D] of items, the first aspect as the fold has it."""
    item_vectors = embedding(item_rows, catalogue.vectors)
    if fold is None or not len(catalogue.folds):
        return item_vectors
    fold_vectors = embedding(item_rows, catalogue.folds[fold])
    return torch.cat([fold_vectors, item_vectors[..., fold_vectors.shape[-1] :]], -1)
