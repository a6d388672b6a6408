"""Threads that each compute on one core."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def open_worker_threads() -> Iterator[ThreadPoolExecutor]:
    """Opens a thread for each core, in which torch computes without further threads.

    Torch's own threads wait for each other in every product, spinning. Where the machine has other work that
    took four times the processor time.
    """
    num_torch_threads = torch.get_num_threads()
    num_workers = len(os.sched_getaffinity(0))
    try:
        with ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        # What a thread sets also holds for threads that start later.
        torch.set_num_threads(num_torch_threads)
