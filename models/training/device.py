"""What training computes on: the device, the precision of its matrix products and the CPU threads."""

import os

import torch

from contracts.config import Precision


def choose_device(local_rank: int = 0) -> torch.device:
    """A GPU where there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def uses_bfloat16(device: torch.device, precision: Precision) -> bool:
    """Whether matrix products are computed in bfloat16."""
    if precision != "auto":
        return precision == "bfloat16"
    # Only GPUs gain from it; on CPUs results stay the same everywhere.
    return device.type == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))


def set_num_threads(num_threads: int) -> None:
    """Lets torch use so many CPU threads; 0: all that this process may use."""
    torch.set_num_threads(num_threads or len(os.sched_getaffinity(0)))
