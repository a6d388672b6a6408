"""Where the masked slots lie among a user's behaviours.

Shape letters: B users, T behaviours, G slots, S positions of behaviours and slots together.

Counted from the right end, slot g < G lies at position 2g (slot 0 after the latest behaviour, the others in the gaps
before it) and behaviour j between them at 2j + 1, or at j + G once the slots are used up.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.behavior.tensors import Batch

OPEN = -1
"""Stands in a table of filled slots where the slot is still masked."""


@dataclass(frozen=True)
class SlotLayout:
    """Behaviours and slots side by side."""

    batch: Batch
    """Positions of both, [B, S]; slots hold item 0 until they are filled."""
    slot_columns_g: Tensor
    """Column of each slot."""
    valid_bg: Tensor
    """Does the slot exist? Slot 0 always does, slot g > 0 where it has behaviours on both sides."""

    def filled(self, items_bg: Tensor) -> tuple[Batch, Tensor]:
        """The batch with slots filled by items (`OPEN`: not yet), and which of its positions are masked, [B, S]."""
        items_bs = self.batch.items_bt.index_copy(1, self.slot_columns_g, items_bg.clamp_min(0))
        masked_bs = torch.zeros_like(self.batch.valid_bt)
        masked_bs[:, self.slot_columns_g] = items_bg == OPEN
        return Batch(items_bs, self.batch.event_types_bt, self.batch.ages_bt, self.batch.valid_bt), masked_bs


def lay_out(histories: Batch, num_slots: int) -> SlotLayout:
    """Lays slots into right-aligned histories; a slot's age is midway between its neighbours', slot 0 is of now."""
    batch, length = histories.items_bt.shape
    count = min(num_slots, length + 1)
    from_end_t = torch.arange(length - 1, -1, -1)
    behaviors_t = torch.where(from_end_t < count - 1, 2 * from_end_t + 1, from_end_t + count)
    slots_g = 2 * torch.arange(count)
    width = int(torch.cat([behaviors_t, slots_g]).max()) + 1

    exists_bt = histories.valid_bt.flip(1)[:, : count - 1]
    older_bt = histories.valid_bt.flip(1)[:, 1:count]
    both_bg = exists_bt[:, : older_bt.shape[1]] & older_bt
    valid_bg = torch.zeros(batch, count, dtype=torch.bool)
    valid_bg[:, 0] = True
    valid_bg[:, 1 : 1 + both_bg.shape[1]] = both_bg
    ages_bt = histories.ages_bt.flip(1)
    ages_bg = torch.zeros(batch, count)
    ages_bg[:, 1 : 1 + both_bg.shape[1]] = (ages_bt[:, : both_bg.shape[1]] + ages_bt[:, 1 : 1 + both_bg.shape[1]]) / 2

    columns_t, columns_g = width - 1 - behaviors_t, width - 1 - slots_g
    merged = Batch(
        items_bt=_spread(histories.items_bt, columns_t, width),
        event_types_bt=_spread(histories.event_types_bt, columns_t, width),
        ages_bt=_spread(histories.ages_bt, columns_t, width).index_copy(1, columns_g, ages_bg),
        valid_bt=_spread(histories.valid_bt, columns_t, width).index_copy(1, columns_g, valid_bg),
    )
    return SlotLayout(merged, columns_g, valid_bg)


def _spread(values_bt: Tensor, columns_t: Tensor, width: int) -> Tensor:
    return values_bt.new_zeros(len(values_bt), width).index_copy(1, columns_t, values_bt)
