"""Ctrl-C and SIGTERM end every process that this one started, before it ends itself."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType

import psutil

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_S = 0.05


class Interrupted(KeyboardInterrupt):
    """The user or the system asked this process to end."""

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.exit_code = 128 + signal_number


@contextlib.contextmanager
def end_children_when_interrupted() -> Iterator[None]:
    """Makes SIGINT and SIGTERM raise `Interrupted`, and ends every descendant before that leaves."""
    is_over = threading.Event()
    step_ender = threading.Thread(target=_keep_ending_steps, args=(is_over,), daemon=True)

    def interrupt(signal_number: int, _frame: FrameType | None) -> None:
        for number in _SIGNALS:
            signal.signal(number, _kill_all)
        # kfp waits for its threads, and a thread starts the next shard when one has ended: so steps are ended
        # until we are out. Servers are left to the contexts that started them, which let them drain.
        step_ender.start()
        raise Interrupted(signal_number)

    former_handlers = {signal_number: signal.signal(signal_number, interrupt) for signal_number in _SIGNALS}
    try:
        yield
    except Interrupted:
        is_over.set()
        # It may just be ending processes whose parent is gone: nobody else would find them.
        step_ender.join()
        end_processes(list_descendants())
        raise
    finally:
        for signal_number, former_handler in former_handlers.items():
            signal.signal(signal_number, former_handler)


def list_descendants(*, only_own_session: bool = False) -> list[psutil.Process]:
    """The processes that this one started, and theirs. Servers have sessions of their own."""
    descendants = psutil.Process().children(recursive=True)
    return [process for process in descendants if not only_own_session or _shares_session(process)]


def end_processes(processes: Sequence[psutil.Process], *, grace_s: float = 5.0) -> None:
    """Asks processes to end, waits, and kills those that did not."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _wait_for_end(processes, grace_s)
    for process in filter(is_alive, processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _wait_for_end(processes, grace_s)


def is_alive(process: psutil.Process) -> bool:
    """Does it run? A zombie does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _wait_for_end(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    # Not psutil's own wait: it takes the exit code, and kfp would cache the step as a success.
    deadline = time.monotonic() + timeout_s
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _shares_session(process: psutil.Process) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(process.pid) == os.getsid(0)
    return False


def _keep_ending_steps(is_over: threading.Event) -> None:
    while not is_over.wait(_POLL_S):
        end_processes(list_descendants(only_own_session=True))


def _kill_all(signal_number: int, _frame: FrameType | None) -> None:
    """A second signal: the user does not want to wait."""
    for process in list_descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    os._exit(128 + signal_number)
