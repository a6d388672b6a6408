"""Where the masked slots lie among a user's behaviors.

Letters of its own: G slots, Q positions of behaviors and slots together.

Counted from the right end, slot g < G lies at position 2g: slot 0 after the latest behavior, the others in
the gaps before it. Behavior j lies between them at 2j + 1, or at j + G once the slots are used up.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.behavior.sequences.sequence_tensors import SequenceBatch

OPEN_SLOT = -1
"""Stands in a table of filled slots where the slot is still masked."""


@dataclass(frozen=True)
class SlotLayout:
    """Behaviors and slots side by side."""

    batch: SequenceBatch
    """Positions of both, [B, Q]; slots hold item 0 until they are filled."""
    slot_columns_G: Tensor
    """Column of each slot."""
    is_valid_BG: Tensor
    """Does the slot exist? Slot 0 always does, slot g > 0 where it has behaviors on both sides."""

    def fill_slots(self, items_BG: Tensor) -> tuple[SequenceBatch, Tensor]:
        """Fills slots with items (`OPEN_SLOT`: not yet); returns also which positions are masked, [B, Q]."""
        items_BQ = self.batch.items_BT.index_copy(1, self.slot_columns_G, items_BG.clamp_min(0))
        is_masked_BQ = torch.zeros_like(self.batch.is_valid_BT)
        is_masked_BQ[:, self.slot_columns_G] = items_BG == OPEN_SLOT
        layout = self.batch
        filled_batch = SequenceBatch(items_BQ, layout.event_types_BT, layout.ages_BT, layout.is_valid_BT)
        return filled_batch, is_masked_BQ


def lay_out_slots(histories: SequenceBatch, num_slots: int) -> SlotLayout:
    """Lays slots into right-aligned histories. A slot's age is midway between its neighbors'."""
    num_users, history_length = histories.items_BT.shape
    slot_count = min(num_slots, history_length + 1)
    from_end_T = torch.arange(history_length - 1, -1, -1)
    behaviors_T = torch.where(from_end_T < slot_count - 1, 2 * from_end_T + 1, from_end_T + slot_count)
    slots_G = 2 * torch.arange(slot_count)
    width = int(torch.cat([behaviors_T, slots_G]).max()) + 1

    is_newer_BT = histories.is_valid_BT.flip(1)[:, : slot_count - 1]
    is_older_BT = histories.is_valid_BT.flip(1)[:, 1:slot_count]
    num_gaps = is_older_BT.shape[1]
    is_valid_BG = torch.zeros(num_users, slot_count, dtype=torch.bool)
    is_valid_BG[:, 0] = True
    is_valid_BG[:, 1 : 1 + num_gaps] = is_newer_BT[:, :num_gaps] & is_older_BT
    ages_BT = histories.ages_BT.flip(1)
    ages_BG = torch.zeros(num_users, slot_count)
    ages_BG[:, 1 : 1 + num_gaps] = (ages_BT[:, :num_gaps] + ages_BT[:, 1 : 1 + num_gaps]) / 2

    columns_T, columns_G = width - 1 - behaviors_T, width - 1 - slots_G
    merged_batch = SequenceBatch(
        items_BT=_move_columns(histories.items_BT, columns_T, width),
        event_types_BT=_move_columns(histories.event_types_BT, columns_T, width),
        ages_BT=_move_columns(histories.ages_BT, columns_T, width).index_copy(1, columns_G, ages_BG),
        is_valid_BT=_move_columns(histories.is_valid_BT, columns_T, width).index_copy(
            1, columns_G, is_valid_BG
        ),
    )
    return SlotLayout(merged_batch, columns_G, is_valid_BG)


def _move_columns(values_BT: Tensor, columns_T: Tensor, width: int) -> Tensor:
    return values_BT.new_zeros(len(values_BT), width).index_copy(1, columns_T, values_BT)
