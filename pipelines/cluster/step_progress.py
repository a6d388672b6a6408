"""What the steps of a run on a cluster do while somebody waits: a line for each change."""

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

_BEGAN: Final = "RUNNING"
_UNTOLD: Final = frozenset({"", "None", "PENDING", "RUNTIME_STATE_UNSPECIFIED"})
# Tasks of Kubeflow's own: its drivers, the pods' inner task, the run itself.
_OF_KUBEFLOW: Final = ("root", "executor", "system-container-impl", "system-dag-driver")


class StepProgress:
    """Remembers the steps' states and tells what changed.

    The backend tells them as the run's task details. One that leaves them out shows no steps; the run's own
    state is told all the same.
    """

    def __init__(self, tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> None:
        self._tell = tell
        self._states: dict[str, str] = {}

    def follow(self, run: Any) -> None:
        """Tells every step that began or ended since the last look, and the run's own state."""
        for key, name, task in _list_steps(run):
            state = str(task.state)
            if state in _UNTOLD or self._states.get(key) == state:
                continue
            self._states[key] = state
            self._tell(_describe(name, state, task))
        if self._states.get("") != str(run.state):
            self._states[""] = str(run.state)
            self._tell(f"run {run.state}")


def _list_steps(run: Any) -> Iterator[tuple[str, str, Any]]:
    tasks = (run.run_details and run.run_details.task_details) or ()
    for number, task in enumerate(tasks):
        name = str(task.display_name or "")
        if name and name not in _OF_KUBEFLOW and not name.endswith("-driver"):
            yield str(task.task_id or number), name, task


def _describe(name: str, state: str, task: Any) -> str:
    if state == _BEGAN:
        return f"{name} {state}"
    seconds = _measure_seconds(task.start_time, task.end_time)
    duration = "" if seconds is None else f" after {seconds:.0f} s"
    reason = f": {task.error.message}" if task.error and task.error.message else ""
    return f"{name} {state}{duration}{reason}"


def _measure_seconds(start: datetime | None, end: datetime | None) -> float | None:
    # What has not ended yet ended in 1970, as the backend says it.
    if start is None or end is None or end < start:
        return None
    return (end - start).total_seconds()
