"""Hidden behaviours chosen by time: the last two of each user, and all after a moment. Fewer models than `quality`."""

from benchmarks.behavior_quality import FEW, SECONDARY, measure_tasks
from benchmarks.results import Row


def measure(*, quick: bool) -> list[Row]:
    """All rows of the secondary tasks; `quick`: of the smaller data set."""
    names = list(SECONDARY)[:1] if quick else list(SECONDARY)
    return measure_tasks({name: (SECONDARY[name], FEW) for name in names})
