"""How much memory this process and everything it started take together."""

import contextlib
import threading
from types import TracebackType

import psutil

from reaseq.interruption import list_descendants

_PERIOD_S = 0.5


class PeakMemory:
    """Samples the resident memory of the process tree in the background and keeps the highest sum.

    Pages that processes share are counted once per process, so the figure is an upper bound.
    """

    def __init__(self) -> None:
        self._peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample_memory, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_gib(self) -> float:
        """The highest sum so far, GiB."""
        return self._peak_bytes / 2**30

    def _sample_memory(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            self._peak_bytes = max(self._peak_bytes, _sum_tree_bytes())


def _sum_tree_bytes() -> int:
    total_bytes = 0
    for process in (psutil.Process(), *list_descendants()):
        # It may have ended between being listed and being asked.
        with contextlib.suppress(psutil.Error):
            total_bytes += process.memory_info().rss
    return total_bytes
