"""What the denoiser works on: the catalogue and a batch of sequences as tensors.

Shape letters: B sequences, T positions, L levels, N items, P knowledge components, V length of the knowledge vector,
K codes of a level.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.behavior.catalogue import FloatArray, IntArray
from models.behavior.histories import EMPTY, Sequences

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TensorsLike = TypeVar("TensorsLike", bound="DataclassInstance")
"""A dataclass of tensors, or of tuples of them."""


@dataclass(frozen=True)
class ItemTensors:
    """The items that probabilities are normalised over."""

    codes_nl: Tensor
    """From `Denoiser.known_codes`."""
    components_np: Tensor
    """From `Denoiser.project`."""
    vectors_nv: Tensor
    """Knowledge vectors."""
    log_prior_n: Tensor
    """log P(item) before anything is known of a user."""
    code_log_priors: tuple[Tensor, ...]
    """log P(code) per level, [K_l] each."""


@dataclass(frozen=True)
class Batch:
    """Sequences as tensors."""

    items_bt: Tensor
    """Item index, 0 at padding."""
    event_types_bt: Tensor
    """0 at padding."""
    ages_bt: Tensor
    """Seconds."""
    valid_bt: Tensor
    """False at padding."""


def to_batch(sequences: Sequences) -> Batch:
    """Sequences as tensors."""
    items = torch.from_numpy(np.ascontiguousarray(sequences.items))
    return Batch(
        items_bt=items.clamp_min(0),
        event_types_bt=torch.from_numpy(np.ascontiguousarray(sequences.event_types)),
        ages_bt=torch.from_numpy(np.ascontiguousarray(sequences.ages_s)),
        valid_bt=items != EMPTY,
    )


def rows_of(batch: TensorsLike, rows: slice) -> TensorsLike:
    """Some rows of a batch, or of the noise on one."""
    return _each(batch, lambda tensor: tensor[rows])


def on_device(tensors: TensorsLike, device: torch.device) -> TensorsLike:
    """The same tensors on a device."""
    return _each(tensors, lambda tensor: tensor.to(device))


def item_counts(items: IntArray, num_items: int) -> FloatArray:
    """How often each item occurs, [N]."""
    return np.bincount(items, minlength=num_items).astype(np.float32)


def log_prior(counts: FloatArray) -> Tensor:
    """log P(item), [N], with one more count for each item, so that new items keep a chance."""
    smoothed = torch.from_numpy(counts) + 1.0
    return torch.log(smoothed / smoothed.sum())


def code_log_priors(log_prior_n: Tensor, codes_nl: Tensor, code_sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """log P(code) per level: the prior summed over the items that carry the code (a code of no item gets 1e-12)."""
    prior_n = log_prior_n.exp()
    sums = (torch.zeros(k + 1).index_add_(0, codes_nl[:, i], prior_n)[:k] for i, k in enumerate(code_sizes))
    return tuple(torch.log(total.clamp_min(1e-12)) for total in sums)


def _each(tensors: TensorsLike, change: Callable[[Tensor], Tensor]) -> TensorsLike:
    values = ((field.name, getattr(tensors, field.name)) for field in fields(tensors))
    changed: dict[str, Any] = {n: tuple(map(change, v)) if isinstance(v, tuple) else change(v) for n, v in values}
    return replace(tensors, **changed)


def sample_items(items: ItemTensors, batch: Batch, size: int, generator: torch.Generator) -> tuple[ItemTensors, Batch]:
    """Replaces the catalogue by the batch's own items and a uniform sample of `size` others.

    The others stand for the whole rest: their log prior is raised by log(rest / size) (importance weights). Where no
    other is left the catalogue stays as it is. A limit: the associations' votes (`associations.votes`) are shared among
    the sample as it is, in which the batch's own items are too many.
    """
    own, positions_bt = torch.unique(batch.items_bt, return_inverse=True)
    rest = torch.ones(len(items.log_prior_n), dtype=torch.bool)
    rest[own] = False
    others = rest.nonzero()[:, 0]
    if len(others) == 0:
        return items, batch
    drawn = others[torch.randint(len(others), (size,), generator=generator)]
    chosen = torch.cat([own, drawn])
    log_prior_n = items.log_prior_n[chosen]
    log_prior_n[len(own) :] += float(np.log(len(others) / size))
    sampled = replace(
        items,
        codes_nl=items.codes_nl[chosen],
        components_np=items.components_np[chosen],
        vectors_nv=items.vectors_nv[chosen],
        log_prior_n=log_prior_n,
    )
    return sampled, replace(batch, items_bt=positions_bt)
