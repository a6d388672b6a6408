"""Batches of lists as tensors, and how the network sees them in training.

A batch represents each distinct item once and looks the result up wherever the item occurs: the same arithmetic as
the exported graph, at a fraction of the cost.

Shape legend: B batch, C candidates, H history, K inferred, U distinct items, E width.
"""

# ruff: noqa: N806, N815 (shape suffixes)
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.ranker.encoding import PADDING
from models.ranker.feed import candidate_grid
from models.ranker.network import Ranker, Views
from models.ranker.rows import ItemTable, RankingRows

Ints = npt.NDArray[np.int64]


class CatalogueTensors(NamedTuple):
    """The item table as tensors, one row per item."""

    fields: dict[str, Tensor]
    """`ids`, `categories`, `brands`, `price_buckets` [rows]."""
    vectors: Tensor
    """[rows, D]"""


class Batch(NamedTuple):
    """Some lists."""

    candidates_BC: Tensor
    """Item rows, 0 where a list is shorter."""
    mask_BC: Tensor
    """1 where there is a candidate, else 0."""
    clicks_BC: Tensor
    orders_BC: Tensor
    history_BH: Tensor
    types_BH: Tensor
    ages_s_BH: Tensor
    inferred_BK: Tensor
    scores_BK: Tensor


def catalogue_tensors(table: ItemTable) -> CatalogueTensors:
    """Item table -> tensors."""
    fields = table.features._asdict()
    vectors = torch.from_numpy(fields.pop("vectors"))
    return CatalogueTensors({name: torch.from_numpy(values) for name, values in fields.items()}, vectors)


def make_batch(rows: RankingRows, chosen: Ints) -> Batch:
    """Collects lists, padded to the longest of them."""
    places, filled = candidate_grid(rows, chosen)
    return Batch(
        candidates_BC=torch.from_numpy(np.where(filled, rows.candidates[places], PADDING).astype(np.int64)),
        mask_BC=torch.from_numpy(filled.astype(np.float32)),
        clicks_BC=torch.from_numpy((rows.clicks[places] & filled).astype(np.float32)),
        orders_BC=torch.from_numpy((rows.orders[places] & filled).astype(np.float32)),
        history_BH=torch.from_numpy(rows.history[chosen].astype(np.int64)),
        types_BH=torch.from_numpy(rows.history_types[chosen].astype(np.int64)),
        ages_s_BH=torch.from_numpy(np.array(rows.history_ages_s[chosen])),
        inferred_BK=torch.from_numpy(rows.inferred[chosen].astype(np.int64)),
        scores_BK=torch.from_numpy(np.array(rows.inferred_scores[chosen])),
    )


def view(network: Ranker, catalogue: CatalogueTensors, batch: Batch) -> Views:
    """Represents the batch's items."""
    features = network.features
    items_BIE = _represent(network, catalogue, torch.cat([batch.candidates_BC, batch.history_BH], 1))
    num_candidates = batch.candidates_BC.shape[1]
    similar = inferred = inferred_similar = None
    if features.similarity:
        similar = _similarity(catalogue.vectors, batch.candidates_BC, batch.history_BH)
    if features.inferred:
        inferred = _represent(network, catalogue, batch.inferred_BK, only_ids=True)
    if features.inferred and features.similarity:
        inferred_similar = _similarity(catalogue.vectors, batch.candidates_BC, batch.inferred_BK)
    return Views(
        candidates_BCE=items_BIE[:, :num_candidates],
        history_BHE=items_BIE[:, num_candidates:],
        history_mask_BH=(batch.history_BH > 0).to(torch.float32),
        ages_s_BH=batch.ages_s_BH,
        types_BH=batch.types_BH,
        similarity_BCH=similar,
        inferred_BKE=inferred,
        scores_BK=batch.scores_BK,
        inferred_similarity_BCK=inferred_similar,
    )


def _represent(network: Ranker, catalogue: CatalogueTensors, rows: Tensor, *, only_ids: bool = False) -> Tensor:
    """Item representations [*rows, E]; `only_ids` leaves out what serving does not send for inferred items."""
    distinct_U, place = torch.unique(rows, return_inverse=True)
    names = ("ids",) if only_ids else tuple(catalogue.fields)
    fields = {name: catalogue.fields[name][distinct_U] for name in names}
    if network.features.knowledge:
        fields["vectors"] = catalogue.vectors[distinct_U]
    items_UE: Tensor = network.items(fields)
    return torch.nn.functional.embedding(place, items_UE)


def _similarity(vectors: Tensor, candidates: Tensor, others: Tensor) -> Tensor:
    similarity: Tensor = vectors[candidates] @ vectors[others].transpose(1, 2)
    return similarity
