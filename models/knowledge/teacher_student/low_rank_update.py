"""LoRA (arXiv 2106.09685): the weights stay as they are, and a product of two thin matrices is added.

Few numbers are trained and saved. Merged, the model is a plain one again.
"""

import torch
from torch import Tensor, nn

from contracts.errors import UserError


class LowRankLinear(nn.Module):
    """A frozen linear layer with a trained update of low rank."""

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = linear
        # The second factor starts at zero, so training starts from the model as it is.
        start = torch.randn(rank, linear.in_features, generator=generator) / linear.in_features**0.5
        self.down = nn.Parameter(start)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        base: Tensor = self.linear(hidden)
        return base + nn.functional.linear(nn.functional.linear(hidden, self.down), self.up)

    def merge(self) -> nn.Linear:
        """The linear layer with the update in its weights."""
        with torch.no_grad():
            self.linear.weight += (self.up @ self.down).to(self.linear.weight.dtype)
        return self.linear


def add_low_rank_updates(model: nn.Module, *, rank: int, seed: int) -> None:
    """Freezes a model and gives each of its linear layers, but the output layer, an update to train.

    Args:
        model: A causal language model of `transformers`.
        rank: Of the updates.
        seed: Of their start.

    Raises:
        UserError: The model has no linear layer that could take one.
    """
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    output_layer = model.get_output_embeddings()  # type: ignore[operator]
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child is not output_layer:
                setattr(parent, name, LowRankLinear(child, rank, generator))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        # GPT-2 and its kin are built of layers of their own.
        raise UserError(
            "student_lm.rank: the base model has no linear layers for low-rank updates; set student_lm.rank "
            "to 0, so that all weights are trained, and the learning rate to a tenth"
        )


def merge_low_rank_updates(model: nn.Module) -> None:
    """Makes a model plain again, with all updates in its weights."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LowRankLinear):
                setattr(parent, name, child.merge())
