"""An item as the sum of what is known of it: id, category, brand, price, knowledge vector.

Shape legend: E width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.ranker.config import RankerConfig
from models.ranker.inputs.item_encoder import UNKNOWN

# Ids start far below what items mean, so that they are learned as a correction of it.
_ID_STD, _PROJECTION_STD = 0.01, 0.1


class ItemNorm(nn.LayerNorm):
    """Layer norm; in the graph its means are products with a constant: half the time of the runtime's own."""

    share_E1: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.register_buffer("share_E1", torch.full((width, 1), 1 / width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., E]"""
        if not torch.onnx.is_in_onnx_export():
            return super().forward(x)
        mean = x @ self.share_E1
        variance = (x * x) @ self.share_E1 - mean * mean
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class ItemTower(nn.Module):
    """Represents an item as the normalized sum of what is known of it."""

    def __init__(self, config: RankerConfig, table_sizes: Mapping[str, int], vector_length: int) -> None:
        super().__init__()
        features, width = config.features, config.dim
        self.id_dropout = config.id_dropout
        field_tables = {
            "ids": ("item", features.item_id),
            "categories": ("category", features.category),
            "brands": ("brand", features.brand),
            "price_buckets": ("price", features.price),
        }
        self.tables = nn.ModuleDict(
            {
                field: _make_embedding(table_sizes[vocabulary], width)
                for field, (vocabulary, is_used) in field_tables.items()
                if is_used
            }
        )
        self.project = nn.Linear(vector_length, width, bias=False) if features.knowledge else None
        if self.project is not None:
            nn.init.normal_(self.project.weight, std=_PROJECTION_STD)
        self.norm = ItemNorm(width)

    def forward(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Items [..., E] from the fields that are there."""
        summands = [
            table(self._hide_ids(field, fields[field]))
            for field, table in self.tables.items()
            if field in fields
        ]
        # Of inferred items, serving sends fewer fields than of the others.
        if self.project is not None and "vectors" in fields:
            summands.append(self.project(fields["vectors"][..., : self.project.in_features]))
        item_sum = summands[0]
        for summand in summands[1:]:
            item_sum = item_sum + summand
        item: Tensor = self.norm(item_sum)
        return item

    def _hide_ids(self, field: str, indices: Tensor) -> Tensor:
        if field != "ids" or not self.training or self.id_dropout == 0:
            return indices
        is_dropped = torch.rand(indices.shape, device=indices.device) < self.id_dropout
        return torch.where(is_dropped & (indices > UNKNOWN), UNKNOWN, indices)


def _make_embedding(num_rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(num_rows, width)
    nn.init.normal_(table.weight, std=_ID_STD)
    return table
