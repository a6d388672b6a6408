"""How the learning rate moves. torch has the plain schedules (`CosineAnnealingLR`); here is the mixture."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warm_up_then_cosine(optimizer: Optimizer, *, warmup_steps: int, total_steps: int) -> LambdaLR:
    """Rises linearly over the first steps, times a cosine that is zero after `total_steps`.

    The closed form depends on the step alone. torch's chained schedulers multiply step by step and so drift.
    """

    def scale_rate(step: int) -> float:
        return min(1.0, (step + 1) / warmup_steps) * 0.5 * (1 + math.cos(math.pi * step / total_steps))

    return LambdaLR(optimizer, scale_rate)
