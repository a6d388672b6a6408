"""Who did this also did that: EASE, a linear model of co-occurrence in closed form.

B = I - P diag(P)^-1 with P = (X^T X + ridge I)^-1, X the users x items matrix of behaviours (Steck, "Embarrassingly
shallow autoencoders for sparse data", WWW 2019, formula 8). Of its positive weights each item has one vote to share.

Shape letters: N items, M items that occur often enough, K neighbours kept per item.
"""

from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse
import torch
from scipy.linalg import lapack
from torch import Tensor

from models.behavior.catalogue import Catalogue, FloatArray, IntArray
from models.behavior.config import CooccurrenceConfig
from models.behavior.neighbors import Neighbors, keep_largest, stack
from models.behavior.tensors import item_counts

_BLOCK = 1024
_DOUBT = 0.05
"""Weight that an item must exceed in all for its vote to count in full."""
FILE = "cooccurrence.parquet"
_SCHEMA = {"item_id": pl.String(), "other_id": pl.String(), "weight": pl.Float32()}


def fit_cooccurrence(behaviors: pl.DataFrame, num_items: int, config: CooccurrenceConfig) -> Neighbors:
    """What each item says of others by the behaviours of all users.

    Args:
        behaviors: from `distinct_behaviors`.
        num_items: N; only the `max_items` most frequent of them take part, the others say nothing.
        config: the settings.
    """
    counts = item_counts(behaviors["item"].to_numpy(), num_items)
    often = np.sort(np.argsort(-counts, kind="stable")[: config.max_items])
    often = often[counts[often] > 0]
    weights_mm = torch.from_numpy(closed_form(_gram(behaviors, often, num_items), config.ridge)).clamp_min_(0)
    weights_mm /= weights_mm.sum(1, keepdim=True) + _DOUBT
    parts = [
        keep_largest(weights_mm[first : first + _BLOCK], first, config.num_neighbors, keep_rest=False)
        for first in range(0, len(often), _BLOCK)
    ]
    return _spread(stack(parts), torch.from_numpy(often), num_items) if parts else nothing(num_items)


def nothing(num_items: int) -> Neighbors:
    """The table of N items that say nothing."""
    zeros = torch.zeros(num_items, 1)
    return Neighbors(zeros.int(), zeros, zeros[:, 0])


def save_cooccurrence(folder: Path, table: Neighbors, item_ids: pl.Series) -> None:
    """Writes the table by item ids, so that it outlives a change of the catalogue."""
    row, column = table.values_nk.nonzero(as_tuple=True)
    frame = pl.DataFrame(
        {
            "item_id": item_ids.gather(row.numpy()),
            "other_id": item_ids.gather(table.items_nk[row, column].numpy()),
            "weight": table.values_nk[row, column].numpy(),
        },
        schema=_SCHEMA,
    )
    frame.write_parquet(folder / FILE)


def load_cooccurrence(folder: Path, catalogue: Catalogue) -> Neighbors:
    """Reads the table for a catalogue; items that are not in it are left out, new ones say nothing."""
    frame = pl.read_parquet(folder / FILE, schema=_SCHEMA)
    places = pl.DataFrame({"item_id": catalogue.item_ids}).with_row_index("place")
    known = frame.join(places, on="item_id", how="inner", maintain_order="left").join(
        places.select(other_id="item_id", other="place"), on="other_id", how="inner", maintain_order="left"
    )
    if known.is_empty():
        return nothing(len(catalogue))
    rank = known.select(rank=pl.int_range(pl.len()).over("place"))["rank"].to_numpy(writable=True)
    items = torch.zeros(len(catalogue), int(rank.max()) + 1, dtype=torch.int32)
    values = torch.zeros(items.shape)
    row, column = torch.from_numpy(known["place"].to_numpy().astype(np.int64)), torch.from_numpy(rank).long()
    items[row, column] = torch.from_numpy(known["other"].to_numpy().astype(np.int32))
    values[row, column] = torch.from_numpy(known["weight"].to_numpy(writable=True))
    return Neighbors(items, values, torch.zeros(len(catalogue)))


def _gram(behaviors: pl.DataFrame, often: IntArray, num_items: int) -> FloatArray:
    """X^T X of the items `often`, [M, M]."""
    user = behaviors["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    item = behaviors["item"].to_numpy()
    users_by_items = scipy.sparse.csr_matrix(
        (np.ones(len(item), np.float32), (user, item)), shape=(int(user.max(initial=-1)) + 1, num_items)
    )[:, often]
    gram: FloatArray = np.asarray((users_by_items.T @ users_by_items).toarray(), dtype=np.float32)
    return gram


def closed_form(gram_mm: FloatArray, ridge: float) -> FloatArray:
    """EASE's weights; row j holds what item j says of the others. Inverts in place, by Cholesky."""
    if len(gram_mm) == 0:
        return gram_mm
    gram_mm[np.diag_indices_from(gram_mm)] += ridge
    factor, failed = lapack.spotrf(gram_mm, lower=0, overwrite_a=1)
    assert not failed, "a Gram matrix with a ridge is positive definite"
    inverse, _ = lapack.spotri(factor, lower=0, overwrite_c=1)
    inverse = np.triu(inverse) + np.triu(inverse, 1).T
    weights: FloatArray = np.asarray(inverse / -np.diag(inverse), dtype=np.float32)
    np.fill_diagonal(weights, 0)
    return weights


def _spread(table: Neighbors, often: Tensor, num_items: int) -> Neighbors:
    """The table of the items `often` as one of all N."""
    items = torch.zeros(num_items, table.items_nk.shape[1], dtype=torch.int32)
    values = torch.zeros(items.shape)
    items[often] = often[table.items_nk.long()].int()
    values[often] = table.values_nk
    return Neighbors(items, values, torch.zeros(num_items))
