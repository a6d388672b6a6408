"""Who did this also did that: EASE, a linear model of co-occurrence in closed form.

B = I - P diag(P)^-1 with P = (X^T X + ridge I)^-1 and X the users x items matrix of behaviors (Steck,
"Embarrassingly shallow autoencoders for sparse data", WWW 2019, formula 8). Each item shares one vote by
its positive weights.

Letters of its own: M frequent items, J neighbors kept per item.
"""

from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse
import torch
from scipy.linalg import lapack
from torch import Tensor

from contracts.array_types import FloatArray, IntArray
from models.behavior.decoding.vote_tables import NeighborVoteTable, keep_largest_votes, stack_tables
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue
from models.behavior.sequences.sequence_tensors import count_items

_RIDGE = 200.0
"""Of the closed form: larger trusts rare pairs less. 50 to 400 are the same on real logs (docs/log.md)."""
_MAX_ITEMS = 12_000
"""The closed form inverts a matrix of the most frequent items: 3 x 4 bytes x this squared."""
NUM_NEIGHBORS = 100
"""Others kept per item."""
_BLOCK_ROWS = 1024
_MIN_TOTAL_WEIGHT = 0.05
"""Weight that an item must exceed in all for its vote to count in full."""
COOCCURRENCE_FILE = "cooccurrence.parquet"
_SCHEMA = {"item_id": pl.String(), "other_id": pl.String(), "weight": pl.Float32()}


def fit_cooccurrence(
    behaviors: pl.DataFrame, num_items: int, *, ridge: float = _RIDGE, max_items: int = _MAX_ITEMS
) -> NeighborVoteTable:
    """Fits what each item says of others, by the behaviors of all users.

    Args:
        behaviors: from `find_distinct_behaviors`.
        num_items: items of the catalogue; those that are not frequent say nothing.
        ridge: of the closed form.
        max_items: how many items count as frequent.
    """
    counts_I = count_items(behaviors["item"].to_numpy(), num_items)
    frequent_items = np.sort(np.argsort(-counts_I, kind="stable")[:max_items])
    frequent_items = frequent_items[counts_I[frequent_items] > 0]
    if len(frequent_items) == 0:
        return make_empty_table(num_items)
    weights_MM = torch.from_numpy(solve_ease(_count_pairs(behaviors, frequent_items, num_items), ridge))
    weights_MM.clamp_min_(0)
    weights_MM /= weights_MM.sum(1, keepdim=True) + _MIN_TOTAL_WEIGHT
    blocks = [
        keep_largest_votes(weights_MM[first : first + _BLOCK_ROWS], first, NUM_NEIGHBORS, keep_mean=False)
        for first in range(0, len(frequent_items), _BLOCK_ROWS)
    ]
    return _spread_over_catalogue(stack_tables(blocks), torch.from_numpy(frequent_items), num_items)


def make_empty_table(num_items: int) -> NeighborVoteTable:
    """Makes the table of items that say nothing."""
    zeros_I1 = torch.zeros(num_items, 1)
    return NeighborVoteTable(zeros_I1.int(), zeros_I1, zeros_I1[:, 0])


def save_cooccurrence(folder: Path, table: NeighborVoteTable, item_ids: pl.Series) -> None:
    """Writes the table by item ids, so that it outlives a change of the catalogue."""
    rows, columns = table.votes_IJ.nonzero(as_tuple=True)
    pairs = pl.DataFrame(
        {
            "item_id": item_ids.gather(rows.numpy()),
            "other_id": item_ids.gather(table.neighbors_IJ[rows, columns].numpy()),
            "weight": table.votes_IJ[rows, columns].numpy(),
        },
        schema=_SCHEMA,
    )
    pairs.write_parquet(folder / COOCCURRENCE_FILE)


def load_cooccurrence(folder: Path, catalogue: BehaviorCatalogue) -> NeighborVoteTable:
    """Reads the table for a catalogue. Items that are not in it are left out, new ones say nothing."""
    all_pairs = pl.read_parquet(folder / COOCCURRENCE_FILE, schema=_SCHEMA)
    item_numbers = pl.DataFrame({"item_id": catalogue.item_ids}).with_row_index("item")
    other_numbers = item_numbers.select(other_id="item_id", other="item")
    pairs = all_pairs.join(item_numbers, on="item_id", how="inner", maintain_order="left").join(
        other_numbers, on="other_id", how="inner", maintain_order="left"
    )
    if pairs.is_empty():
        return make_empty_table(len(catalogue))
    ranks = pairs.select(rank=pl.int_range(pl.len()).over("item"))["rank"].to_numpy(writable=True)
    neighbors_IJ = torch.zeros(len(catalogue), int(ranks.max()) + 1, dtype=torch.int32)
    votes_IJ = torch.zeros(neighbors_IJ.shape)
    rows, columns = (
        torch.from_numpy(pairs["item"].to_numpy().astype(np.int64)),
        torch.from_numpy(ranks).long(),
    )
    neighbors_IJ[rows, columns] = torch.from_numpy(pairs["other"].to_numpy().astype(np.int32))
    votes_IJ[rows, columns] = torch.from_numpy(pairs["weight"].to_numpy(writable=True))
    return NeighborVoteTable(neighbors_IJ, votes_IJ, torch.zeros(len(catalogue)))


def _count_pairs(behaviors: pl.DataFrame, frequent_items: IntArray, num_items: int) -> FloatArray:
    """X^T X of the frequent items, [M, M]."""
    users = behaviors["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    items = behaviors["item"].to_numpy()
    users_by_items = scipy.sparse.csr_matrix(
        (np.ones(len(items), np.float32), (users, items)), shape=(int(users.max(initial=-1)) + 1, num_items)
    )[:, frequent_items]
    gram_MM: FloatArray = np.asarray((users_by_items.T @ users_by_items).toarray(), dtype=np.float32)
    return gram_MM


def solve_ease(gram_MM: FloatArray, ridge: float) -> FloatArray:
    """Solves EASE; row j holds what item j says of the others. Inverts in place, by Cholesky."""
    gram_MM[np.diag_indices_from(gram_MM)] += ridge
    factor_MM, error_code = lapack.spotrf(gram_MM, lower=0, overwrite_a=1)
    assert not error_code, "a Gram matrix with a ridge is positive definite"
    # LAPACK fills one triangle only.
    half_MM, _ = lapack.spotri(factor_MM, lower=0, overwrite_c=1)
    inverse_MM = np.triu(half_MM) + np.triu(half_MM, 1).T
    weights_MM: FloatArray = np.asarray(inverse_MM / -np.diag(inverse_MM), dtype=np.float32)
    np.fill_diagonal(weights_MM, 0)
    return weights_MM


def _spread_over_catalogue(
    table: NeighborVoteTable, frequent_items: Tensor, num_items: int
) -> NeighborVoteTable:
    """Makes the table of the frequent items one of all items."""
    neighbors_IJ = torch.zeros(num_items, table.neighbors_IJ.shape[1], dtype=torch.int32)
    votes_IJ = torch.zeros(neighbors_IJ.shape)
    neighbors_IJ[frequent_items] = frequent_items[table.neighbors_IJ.long()].int()
    votes_IJ[frequent_items] = table.votes_IJ
    return NeighborVoteTable(neighbors_IJ, votes_IJ, torch.zeros(num_items))
