"""The processes that train together: alone by default, or as many as torchrun or `launch` started.

    torchrun --nproc-per-node 8 -m models.behavior DATASET ITEM_EMBEDDINGS CONFIG CHECKPOINTS
    torchrun --nproc-per-node 8 -m models.ranker TRAINING_SET DATASET ITEM_EMBEDDINGS CONFIG CHECKPOINTS

Each worker computes the gradient of its share of every batch; DistributedDataParallel averages them. Torch's own
launcher and wrapper are enough for models of these sizes, so Accelerate is not needed.
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


@dataclass(frozen=True)
class Worker:
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device
    half: bool
    """Compute matrix products in bfloat16 (weights, their sums and the loss stay in float32)."""

    def share(self, num_rows: int) -> tuple[slice, bool]:
        """This worker's rows of a batch, and whether they count: where there are too few it takes one in vain."""
        return (slice(self.rank, None, self.size), True) if self.rank < num_rows else (slice(1), False)

    def sum(self, *values: float) -> list[float]:
        """Sums numbers over all workers."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over all workers."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module, forward_sync_buffers=False, find_unused_parameters=True)

    def autocast(self) -> torch.autocast:
        """The context in which losses are computed."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)


@contextmanager
def join_workers(precision: Precision) -> Iterator[Worker]:
    """This process as a worker: of the group that torchrun describes in the environment, else alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = choose_device(int(os.environ.get("LOCAL_RANK", "0")))
    half = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    if size == 1:
        yield Worker(0, 1, device, half)
        return
    if device.type == "cpu":
        cores, workers_here = os.cpu_count() or 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, cores // workers_here))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Worker(distributed.get_rank(), size, device, half)
    finally:
        distributed.destroy_process_group()


def choose_device(local_rank: int = 0) -> torch.device:
    """A GPU where there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Does the device gain from bfloat16? Asked of GPUs only: on CPUs results stay the same everywhere."""
    return device.type == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))


def launch(num_processes: int, work: Callable[..., None], *args: Any) -> None:
    """Runs `work(*args)` in processes of this machine that form one group, as torchrun does."""
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
    elastic_launch(config, work)(*args)
