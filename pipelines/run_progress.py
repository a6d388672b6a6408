"""What a local run is doing right now: steps, and how far the loops inside them are."""

import re
import time
from dataclasses import dataclass, field

_PROGRESS_LINE = re.compile(r"progress: (.+) (\d+)/(\d+) (\w+) \(process (\d+)\)$")


@dataclass
class StageProgress:
    """A loop inside a step, which several processes may share."""

    stage: str
    unit: str
    started_s: float = field(default_factory=time.monotonic)
    counts: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Process -> units done when it was first heard of, units done now, units in all."""

    def update_count(self, process_id: str, done: int, total: int) -> None:
        """Takes what a process reported last."""
        first_done, former_done, _ = self.counts.get(process_id, (done, done, total))
        if done < former_done:  # the same loop once more
            first_done, self.started_s = done, time.monotonic()
        self.counts[process_id] = (first_done, done, total)

    def describe_stage(self, now_s: float) -> str:
        """One line: units done, rate and time left."""
        first_done, num_done, num_total = (sum(column) for column in zip(*self.counts.values(), strict=True))
        text = f"{self.stage} {num_done:,}/{num_total:,} {self.unit}"
        rate_per_s = (num_done - first_done) / max(now_s - self.started_s, 1e-3)
        if not rate_per_s:
            return text
        return f"{text}, {rate_per_s:,.3g}/s, {format_seconds((num_total - num_done) / rate_per_s)} left"


@dataclass
class RunProgress:
    """The steps of a run: how many there are, which have ended, which run."""

    num_steps: int
    num_ended: int = 0
    started_s: float = field(default_factory=time.monotonic)
    running: dict[str, list[float]] = field(default_factory=dict)
    """Step -> when each of its tasks started; shards of a step bear one name."""
    stages: dict[str, StageProgress] = field(default_factory=dict)

    def start_step(self, step_name: str) -> None:
        """A task of the step begins."""
        self.running.setdefault(step_name, []).append(time.monotonic())

    def end_step(self, step_name: str) -> float:
        """A task of the step has ended. Returns its seconds."""
        self.num_ended += 1
        step_starts = self.running.get(step_name) or [time.monotonic()]
        step_seconds = time.monotonic() - step_starts.pop(0)
        if not step_starts:
            self.running.pop(step_name, None)
            self.stages.clear()
        return step_seconds

    def read_line(self, line: str) -> bool:
        """Takes a line of `contracts.progress`. Returns False for any other line."""
        if not (match := _PROGRESS_LINE.search(line)):
            return False
        stage, done, total, unit, process_id = match.groups()
        # A process does one thing at a time: what it did before is over.
        for other_stage in [name for name in self.stages if name != stage]:
            self.stages[other_stage].counts.pop(process_id, None)
            if not self.stages[other_stage].counts:
                del self.stages[other_stage]
        self.stages.setdefault(stage, StageProgress(stage, unit)).update_count(
            process_id, int(done), int(total)
        )
        return True

    def describe_running(self) -> list[str]:
        """One line for each running step and each loop inside."""
        now_s = time.monotonic()
        step_lines = [
            f"{step_name}  {format_seconds(now_s - step_starts[0])}"
            for step_name, step_starts in list(self.running.items())
        ]
        return step_lines + [f"  {stage.describe_stage(now_s)}" for stage in list(self.stages.values())]

    def describe_position(self) -> str:
        """How many of the steps have ended."""
        return f"{self.num_ended} of {max(self.num_steps, self.num_ended)} steps"


def format_seconds(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 05 s, 2 h 10 min."""
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest_s} s"
    hours, rest_minutes = divmod(minutes, 60)
    return f"{hours} h {rest_minutes:02d} min" if hours else f"{minutes} min {rest_s:02d} s"
