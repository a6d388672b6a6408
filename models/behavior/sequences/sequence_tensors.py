"""What the denoiser works on: the catalogue and a batch of sequences as tensors.

A letter of its own: P knowledge components.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from contracts.array_types import FloatArray, IntArray
from models.behavior.sequences.user_sequences import NO_ITEM, BehaviorSequences

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TensorGroup = TypeVar("TensorGroup", bound="DataclassInstance")
"""A dataclass of tensors, or of tuples of them."""


@dataclass(frozen=True)
class ItemTensors:
    """The items that probabilities are normalized over."""

    codes_IL: Tensor
    """From `Denoiser.replace_unknown_codes`."""
    components_IP: Tensor
    """From `Denoiser.project_vectors`."""
    vectors_ID: Tensor
    """Knowledge vectors."""
    log_prior_I: Tensor
    """log P(item) before anything is known of a user."""
    code_log_priors: tuple[Tensor, ...]
    """log P(code) per level, [V] each."""


@dataclass(frozen=True)
class SequenceBatch:
    """Sequences as tensors."""

    items_BT: Tensor
    """Item number, 0 at padding."""
    event_types_BT: Tensor
    """0 at padding."""
    ages_BT: Tensor
    """Seconds."""
    is_valid_BT: Tensor
    """False at padding."""


def make_sequence_batch(sequences: BehaviorSequences) -> SequenceBatch:
    """Turns sequences into tensors."""
    items_BT = torch.from_numpy(np.ascontiguousarray(sequences.items))
    return SequenceBatch(
        items_BT=items_BT.clamp_min(0),
        event_types_BT=torch.from_numpy(np.ascontiguousarray(sequences.event_types)),
        ages_BT=torch.from_numpy(np.ascontiguousarray(sequences.ages_s)),
        is_valid_BT=items_BT != NO_ITEM,
    )


def take_tensor_rows(group: TensorGroup, rows: slice) -> TensorGroup:
    """Takes some rows of a batch, or of the noise on one."""
    return _map_tensors(group, lambda tensor: tensor[rows])


def move_to_device(group: TensorGroup, device: torch.device) -> TensorGroup:
    """Moves tensors to a device."""
    return _map_tensors(group, lambda tensor: tensor.to(device))


def _map_tensors(group: TensorGroup, change: Callable[[Tensor], Tensor]) -> TensorGroup:
    current_values = {field.name: getattr(group, field.name) for field in fields(group)}
    changed_values: dict[str, Any] = {
        name: tuple(map(change, value)) if isinstance(value, tuple) else change(value)
        for name, value in current_values.items()
    }
    return replace(group, **changed_values)


def count_items(items: IntArray, num_items: int) -> FloatArray:
    """Counts how often each item occurs, [I]."""
    return np.bincount(items, minlength=num_items).astype(np.float32)


def smooth_log_prior(counts: FloatArray) -> Tensor:
    """Returns log P(item), [I]. Every item counts once more, so that new items keep a chance."""
    smoothed_I = torch.from_numpy(counts) + 1.0
    return torch.log(smoothed_I / smoothed_I.sum())


def sum_code_log_priors(
    log_prior_I: Tensor, codes_IL: Tensor, code_sizes: tuple[int, ...]
) -> tuple[Tensor, ...]:
    """Sums the prior over the items of each code: log P(code) per level. A code of no item gets 1e-12."""
    prior_I = log_prior_I.exp()
    code_priors = (
        torch.zeros(num_codes + 1).index_add_(0, codes_IL[:, level], prior_I)[:num_codes]
        for level, num_codes in enumerate(code_sizes)
    )
    return tuple(torch.log(prior_V.clamp_min(1e-12)) for prior_V in code_priors)


def sample_softmax_items(
    items: ItemTensors, batch: SequenceBatch, sample_size: int, generator: torch.Generator
) -> tuple[ItemTensors, SequenceBatch]:
    """Replaces the catalogue by the batch's own items and a uniform sample of the others.

    The sample stands for all others: its log prior is raised by log(others / sample_size), the importance
    weight. Where no other item is left the catalogue stays as it is. A limit: the votes of
    `associations.py` are shared among the sample as it is, in which the batch's own items are too many.
    """
    own_items, positions_BT = torch.unique(batch.items_BT, return_inverse=True)
    is_other_I = torch.ones(len(items.log_prior_I), dtype=torch.bool)
    is_other_I[own_items] = False
    other_items = is_other_I.nonzero()[:, 0]
    if len(other_items) == 0:
        return items, batch
    drawn_items = other_items[torch.randint(len(other_items), (sample_size,), generator=generator)]
    chosen_items = torch.cat([own_items, drawn_items])
    log_prior_I = items.log_prior_I[chosen_items]
    log_prior_I[len(own_items) :] += float(np.log(len(other_items) / sample_size))
    sampled_items = replace(
        items,
        codes_IL=items.codes_IL[chosen_items],
        components_IP=items.components_IP[chosen_items],
        vectors_ID=items.vectors_ID[chosen_items],
        log_prior_I=log_prior_I,
    )
    return sampled_items, replace(batch, items_BT=positions_BT)
