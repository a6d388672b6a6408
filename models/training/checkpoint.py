"""The state of a training and the file from which it goes on after a kill.

A checkpoint is one safetensors file: tensors as such, everything else as JSON in its header.
There is no pickle, so a checkpoint from elsewhere cannot run code.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from contracts.artifacts import read_lineage
from contracts.digests import compute_code_version, digest_value

# One key only: safetensors writes several in random order, and equal trainings should leave equal files.
_HEADER = "progress"


@dataclass
class Progress:
    """How far a training has come."""

    step: int = 0
    """Steps done in the epoch under way."""
    loss_sum: float = 0.0
    """Sum of the losses of these steps."""
    loss_count: float = 0.0
    """Number of terms in that sum, such as steps or behaviors."""
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each finished epoch."""
    scores: list[float] = field(default_factory=list)
    """Validation score of each finished epoch, higher is better; nan where there is no validation."""
    best_epoch: int = 0
    """The epoch that is kept, counted from 1."""

    @property
    def num_epochs(self) -> int:
        """Number of finished epochs, which is also the index of the one under way."""
        return len(self.losses)

    @property
    def best_score(self) -> float:
        """Validation score of the epoch that is kept."""
        return self.scores[self.best_epoch - 1]

    def finish_step(self, loss_sum: float, loss_count: float) -> None:
        """Counts a step of the epoch under way."""
        self.step += 1
        self.loss_sum += loss_sum
        self.loss_count += loss_count

    def finish_epoch(self) -> None:
        """Enters the epoch's mean loss; the next epoch is under way."""
        self.losses.append(self.loss_sum / self.loss_count)
        self.step, self.loss_sum, self.loss_count = 0, 0.0, 0.0

    def add_score(self, score: float) -> bool:
        """Enters the score of the last finished epoch; returns whether it is the best so far."""
        is_best = math.isnan(score) or score > max(self.scores, default=-math.inf)
        self.scores.append(score)
        if is_best:
            self.best_epoch = self.num_epochs
        return is_best


@dataclass
class TrainingState:
    """Everything that the next step depends on, besides the seed."""

    network: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    average: AveragedModel | None = None
    """A running average of the weights, which then is what is validated and kept."""
    progress: Progress = field(default_factory=Progress)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best epoch so far."""

    def copy_weights(self) -> dict[str, Tensor]:
        """A copy of the weights that are validated and kept."""
        network = self.network if self.average is None else self.average.module
        return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def locate_checkpoint(folder: Path, kind: str, inputs: Iterable[Path], config: BaseModel) -> Path:
    """The file of the run with these inputs, this configuration and this code; no other run finds it."""
    digests = [read_lineage(artifact).digest for artifact in inputs]
    run = digest_value([*digests, config.model_dump(mode="json"), compute_code_version()])
    return folder / f"{kind}-{run}.safetensors"


def save_checkpoint(path: Path, state: TrainingState) -> None:
    """Writes the state atomically."""
    optimizer_state = state.optimizer.state_dict()
    tensors = _add_prefix("network", state.network.state_dict()) | _add_prefix("best", state.best_weights)
    if state.average is not None:
        tensors |= _add_prefix("average", state.average.state_dict())
    for parameter_number, moments in optimizer_state["state"].items():
        tensors |= _add_prefix(f"optimizer.{parameter_number}", moments)
    json_header = {
        "progress": asdict(state.progress),
        "optimizer_groups": optimizer_state["param_groups"],
        "schedule": state.schedule.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary_path = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    contiguous_tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous_tensors, temporary_path, metadata={_HEADER: json.dumps(json_header)})
    os.replace(temporary_path, path)


def load_checkpoint(path: Path, state: TrainingState) -> None:
    """Restores the state; leaves it as it is where there is no file."""
    if not path.is_file():
        return
    with safe_open(path, framework="pt") as stored:
        json_header = json.loads(stored.metadata()[_HEADER])
        stored_tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    state.network.load_state_dict(_take_prefix("network", stored_tensors))
    if state.average is not None:
        state.average.load_state_dict(_take_prefix("average", stored_tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _take_prefix("optimizer", stored_tensors).items():
        parameter_number, moment_name = name.split(".")
        moments.setdefault(int(parameter_number), {})[moment_name] = tensor
    state.optimizer.load_state_dict({"state": moments, "param_groups": json_header["optimizer_groups"]})
    state.schedule.load_state_dict(json_header["schedule"])
    state.progress = Progress(**json_header["progress"])
    state.best_weights = _take_prefix("best", stored_tensors)


def _add_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _take_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
