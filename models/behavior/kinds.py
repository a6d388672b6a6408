"""Which kinds of things people turn to together: by the log, and by what the world knows.

A kind is two items or more that the knowledge table sums up in the same words: with the handbook teacher a concept.
Few kinds are many items, so what the log is too thin to tell of items it tells of kinds. The world's knowledge enters
as pseudo-users: of each demand and each scenario that items of several kinds share there is one, who has turned to all
of these kinds. Users and pseudo-users together give EASE's closed form (`cooccurrence.py`).

The second part is satiation: who has just looked after a thing here does not need another of its kind elsewhere.

Shape letters: B users, T behaviours, N items, K kinds, U users and pseudo-users.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse
import torch
from torch import Tensor

from contracts.errors import UserError
from models.behavior.catalogue import Catalogue, FloatArray
from models.behavior.config import KindsConfig
from models.behavior.cooccurrence import closed_form
from models.behavior.tensors import Batch

KINDS_FILE, WEIGHTS_FILE = "kinds.parquet", "kind_weights.parquet"
_FLOOR = 0.01
"""A sum of weights that counts for little."""
_CLAIMS = ("demands", "scenarios")
_MOST_SHARED = 40
"""A claim on more kinds tells nothing."""


@dataclass(frozen=True)
class Kinds:
    """The kinds of a catalogue and what each says of the others."""

    kind_n: Tensor
    """Kind of each item; K where it has none, of which nothing is said."""
    weights_kk: Tensor
    """Row j holds what kind j says of the others, at least 0."""

    def score(self, histories: Batch, config: KindsConfig) -> Tensor:
        """What the histories say of items of each kind, and of those without one, in nats, [B, K + 1]."""
        counts = torch.zeros(len(histories.items_bt), len(self.weights_kk) + 1)
        counts.scatter_add_(1, self.kind_n[histories.items_bt], histories.valid_bt.to(counts.dtype))
        counts[:, -1] = 0.0
        called_bk = counts[:, :-1].clamp_max(1.0) @ self.weights_kk
        scores = config.satiation * -counts.log1p()
        scores[:, :-1] += config.weight * torch.log1p(called_bk / _FLOOR)
        return scores


def fit_kinds(behaviors: pl.DataFrame, knowledge: pl.DataFrame, catalogue: Catalogue, config: KindsConfig) -> Kinds:
    """Learns from users and pseudo-users.

    Args:
        behaviors: from `distinct_behaviors`.
        knowledge: the KNOWLEDGE table.
        catalogue: the items.
        config: the settings.

    Raises:
        UserError: there are more kinds than `max_kinds`.
    """
    known = catalogue.index(knowledge.filter(pl.col("summary").is_not_null())).filter(pl.len().over("summary") > 1)
    numbered = known.with_columns(kind=pl.col("summary").rank("dense").cast(pl.Int64) - 1).sort("item")
    num_kinds = numbered["kind"].n_unique()
    if num_kinds > config.max_kinds:
        raise UserError(
            f"the knowledge sums up {num_kinds:,} kinds of items, more than behavior.kinds.max_kinds "
            f"({config.max_kinds:,}); raise it (memory: 12 bytes x its square), or set behavior.kinds.weight and "
            "satiation to 0"
        )
    kind_n = np.full(len(catalogue), num_kinds, dtype=np.int64)
    kind_n[numbered["item"].to_numpy()] = numbered["kind"].to_numpy()
    turned = behaviors.select("user_id", kind=pl.lit(pl.Series(kind_n)).gather(pl.col("item")))
    gram = _gram(turned.filter(pl.col("kind") < num_kinds), num_kinds)
    gram += config.pseudo_users * _gram(_pseudo_users(numbered), num_kinds, one_each=True)
    return Kinds(torch.from_numpy(kind_n), torch.from_numpy(closed_form(gram, config.ridge)).clamp_min_(0))


def save_kinds(folder: Path, kinds: Kinds, item_ids: pl.Series) -> None:
    """Writes the table by item ids, so that it outlives a change of the catalogue."""
    frame = pl.DataFrame({"item_id": item_ids, "kind": kinds.kind_n.numpy()})
    frame.filter(pl.col("kind") < len(kinds.weights_kk)).write_parquet(folder / KINDS_FILE)
    row, column = kinds.weights_kk.nonzero(as_tuple=True)
    weights = {"kind": row.numpy(), "other": column.numpy(), "weight": kinds.weights_kk[row, column].numpy()}
    pl.DataFrame(weights).write_parquet(folder / WEIGHTS_FILE)


def load_kinds(folder: Path, catalogue: Catalogue) -> Kinds | None:
    """Reads the table for a catalogue, whose new items have no kind; None where the model knows no kinds."""
    if not (folder / KINDS_FILE).is_file():
        return None
    frame = pl.read_parquet(folder / KINDS_FILE, schema={"item_id": pl.String(), "kind": pl.Int64()})
    schema = {"kind": pl.Int64(), "other": pl.Int64(), "weight": pl.Float32()}
    weights = pl.read_parquet(folder / WEIGHTS_FILE, schema=schema)
    num_kinds = int(frame.select(pl.col("kind").max().fill_null(-1)).item()) + 1
    weights_kk = torch.zeros(num_kinds, num_kinds)
    row, column, weight = (torch.from_numpy(weights[name].to_numpy(writable=True)) for name in schema)
    weights_kk[row, column] = weight
    kinds = catalogue.item_ids.to_frame("item_id").join(frame, on="item_id", how="left", maintain_order="left")["kind"]
    return Kinds(torch.from_numpy(kinds.fill_null(num_kinds).to_numpy(writable=True)), weights_kk)


def _pseudo_users(known: pl.DataFrame) -> pl.DataFrame:
    """One for each claim that items of several kinds share."""
    claims = [
        known.select("kind", claim=facet).explode("claim").drop_nulls("claim").unnest("claim").select("kind", "text")
        for facet in _CLAIMS
    ]
    shared = pl.concat(claims).unique()
    num_kinds = pl.len().over("text")
    return shared.filter((num_kinds > 1) & (num_kinds <= _MOST_SHARED)).select("kind", user_id="text")


def _gram(turned: pl.DataFrame, num_kinds: int, *, one_each: bool = False) -> FloatArray:
    """X^T X of what users turned to (columns user_id, kind), [K, K]; `one_each`: a user's kinds share one vote."""
    distinct = turned.unique()
    user = distinct["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    shape = (int(user.max(initial=-1)) + 1, num_kinds)
    ones = np.ones(len(user), np.float32)
    turned_uk = scipy.sparse.csr_matrix((ones, (user, distinct["kind"].to_numpy())), shape=shape)
    votes = scipy.sparse.diags(1 / np.maximum(np.asarray(turned_uk.sum(1)).ravel(), 1)) @ turned_uk
    gram: FloatArray = np.asarray((turned_uk.T @ (votes if one_each else turned_uk)).toarray(), dtype=np.float32)
    return gram
