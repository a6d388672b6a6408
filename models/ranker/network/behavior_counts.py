"""How often the user clicked, carted and ordered what is like a candidate, by kind of event, with decay.

The counts every ranking team keeps (user x category, brand, price level), read off the history in the graph.
So they are the same in training and in serving, and as fresh as the history.

Shape legend: B batch, C candidates, H history, G gates, F features.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from contracts.tables import EVENT_TYPES
from models.ranker.inputs.item_encoder import EVENT_TYPE_INDEX, NUM_EVENT_TYPES, UNKNOWN
from models.ranker.network.list_composition import COUNTED_FIELDS

COUNTED_TYPES = tuple(event_type for event_type in EVENT_TYPES if event_type != "impression")
_OTHER_TYPE = -6.0
"""First log weight of a behavior of another kind: next to nothing, yet learned from there."""
_LEAST_COUNT = 0.01


def make_type_weights(num_gates: int) -> Tensor:
    """First log weights of the gates by kind of event, [types, gates]: each gate counts one kind."""
    weights = torch.full((NUM_EVENT_TYPES, num_gates), _OTHER_TYPE)
    for gate in range(num_gates):
        counted_type = COUNTED_TYPES[gate % len(COUNTED_TYPES)]
        weights[EVENT_TYPE_INDEX[counted_type], gate] = 0.0
    return weights


class BehaviorCounts(nn.Module):
    """Counts of the behaviors that share a field with a candidate, and how active the user is at all."""

    def __init__(self, fields: Sequence[str], *, num_gates: int, num_prices: int) -> None:
        super().__init__()
        self.fields = tuple(field for field in fields if field in COUNTED_FIELDS)
        self.has_price = "price_buckets" in fields
        self.price_scale = 1 / num_prices
        self.width = num_gates * (len(self.fields) + 1 + 2 * self.has_price) + 3 * self.has_price

    def forward(
        self,
        candidate_fields: Mapping[str, Tensor],
        history_fields: Mapping[str, Tensor],
        gates_BGH: Tensor,
        mask_BC: Tensor,
    ) -> Tensor:
        """Features [B, F, C].

        Args:
            candidate_fields: codes of the candidates by field, [B, C] each.
            history_fields: the same of the history, [B, H] each.
            gates_BGH: weight of each behavior in each count; 0 where there is none.
            mask_BC: 1 where there is a candidate, else 0.
        """
        counts = [gates_BGH.sum(2, keepdim=True) * mask_BC.unsqueeze(1)]
        for field in self.fields:
            candidate_BC, history_BH = candidate_fields[field], history_fields[field]
            is_same_BHC = (history_BH.unsqueeze(2) == candidate_BC.unsqueeze(1)) & (
                candidate_BC > UNKNOWN
            ).unsqueeze(1)
            counts.append(gates_BGH @ is_same_BHC.to(gates_BGH.dtype))
        features = [torch.sqrt(torch.cat(counts, 1) + _LEAST_COUNT)]
        if self.has_price:
            features += self._compare_prices(candidate_fields, history_fields, gates_BGH, mask_BC)
        return torch.cat(features, 1)

    def _compare_prices(
        self,
        candidate_fields: Mapping[str, Tensor],
        history_fields: Mapping[str, Tensor],
        gates_BGH: Tensor,
        mask_BC: Tensor,
    ) -> list[Tensor]:
        """Where a candidate's price lies against the user's level and against the list's."""
        # Buckets lie at quantiles: their number is a price level in [0, 1].
        level_B1C = (candidate_fields["price_buckets"] * self.price_scale).unsqueeze(1)
        known_B1C = ((candidate_fields["price_buckets"] > UNKNOWN) * mask_BC).unsqueeze(1)
        known_BH = (history_fields["price_buckets"] > UNKNOWN).to(gates_BGH.dtype)
        paid_BH1 = (history_fields["price_buckets"] * self.price_scale * known_BH).unsqueeze(2)
        gate_mass_BG1 = gates_BGH @ known_BH.unsqueeze(2)
        user_level_BG1 = (gates_BGH @ paid_BH1 + _LEAST_COUNT * 0.5) / (gate_mass_BG1 + _LEAST_COUNT)
        against_user_BGC = (level_B1C - user_level_BG1) * known_B1C
        list_level_B11 = (level_B1C * known_B1C).sum(2, keepdim=True) / known_B1C.sum(2, keepdim=True).clamp(
            min=1
        )
        against_list_B1C = (level_B1C - list_level_B11) * known_B1C
        return [
            against_user_BGC,
            against_user_BGC.abs(),
            level_B1C * known_B1C,
            against_list_B1C,
            against_list_B1C.abs(),
        ]
