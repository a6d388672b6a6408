"""The processes that train together: alone by default, or as many as torchrun or `launch_workers` started.

    torchrun --nproc-per-node 8 -m models.behavior DATASET ITEM_EMBEDDINGS CONFIG CHECKPOINTS
    torchrun --nproc-per-node 8 -m models.ranker TRAINING_SET DATASET ITEM_EMBEDDINGS CONFIG CHECKPOINTS

Each worker computes the gradient of its share of every batch, and DistributedDataParallel averages them.
Torch's own launcher and wrapper are enough for models of these sizes, so Accelerate is not needed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from contracts.config import Precision
from models.training.device import choose_device, uses_bfloat16


@dataclass(frozen=True)
class Worker:
    """This process among those that train together."""

    rank: int
    num_workers: int
    device: torch.device
    uses_bfloat16: bool
    """Compute matrix products in bfloat16 (weights, their sums and the loss stay in float32)."""

    def take_share(self, num_rows: int) -> tuple[slice, bool]:
        """This worker's rows of a batch, and whether they count: of too few rows it takes one in vain."""
        return (slice(self.rank, None, self.num_workers), True) if self.rank < num_rows else (slice(1), False)

    def sum_over_workers(self, *values: float) -> list[float]:
        """Sums numbers over all workers."""
        if self.num_workers == 1:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(totals)
        return [float(total) for total in totals]

    def average_gradients(self, module: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over all workers."""
        if self.num_workers == 1:
            return module
        return DistributedDataParallel(module, forward_sync_buffers=False, find_unused_parameters=True)

    def autocast_losses(self) -> torch.autocast:
        """The context in which losses are computed."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.uses_bfloat16)


@contextmanager
def join_workers(precision: Precision) -> Iterator[Worker]:
    """This process as a worker: of the group that torchrun describes in the environment, else alone."""
    num_workers = int(os.environ.get("WORLD_SIZE", "1"))
    device = choose_device(int(os.environ.get("LOCAL_RANK", "0")))
    half_precision = uses_bfloat16(device, precision)
    if num_workers == 1:
        yield Worker(0, 1, device, half_precision)
        return
    if device.type == "cpu":
        num_cores, num_local = os.cpu_count() or 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, num_cores // num_local))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Worker(distributed.get_rank(), num_workers, device, half_precision)
    finally:
        distributed.destroy_process_group()


def launch_workers(num_processes: int, target: Callable[..., None], *args: Any) -> None:
    """Runs `target(*args)` in processes of this machine that form one group, as torchrun does."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    elastic_launch(config, target)(*args)
