"""Training progress on disk: written atomically in the middle of an epoch and at its end, as safetensors only."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_PROGRESS = "progress"


@dataclass
class Progress:
    """How far training has come. With the seed this is the whole state of order and randomness, too: both derive from
    (seed, epoch, step)."""

    train_losses: list[float] = field(default_factory=list)
    """One per finished epoch, whose number so is the epoch under way."""
    validation_losses: list[float] = field(default_factory=list)
    step: int = 0
    """Steps done in the epoch under way."""
    loss_sum: float = 0.0
    """Over the behaviours of these steps."""
    num_behaviors: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best epoch so far."""

    def add(self, loss_sum: float, num_behaviors: float) -> None:
        """Counts behaviours of the epoch under way, and their losses."""
        self.loss_sum += loss_sum
        self.num_behaviors += int(num_behaviors)

    def end_epoch(self) -> None:
        """Enters the epoch's loss; the next one is under way."""
        self.train_losses.append(self.loss_sum / self.num_behaviors)
        self.step, self.loss_sum, self.num_behaviors = 0, 0.0, 0


def load_progress(path: Path, denoiser: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Restores the network and the optimizer from `path`; a fresh start where there is no file."""
    if not path.is_file():
        return Progress()
    with safe_open(path, framework="pt") as stored:
        progress = Progress(**json.loads(stored.metadata()[_PROGRESS]))
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    denoiser.load_state_dict(_part(tensors, "denoiser."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer.").items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    progress.best = _part(tensors, "best.")
    return progress


def save_progress(path: Path, progress: Progress, denoiser: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Writes everything the next step depends on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    tensors = {f"denoiser.{name}": tensor for name, tensor in denoiser.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": tensor for key, tensor in state.items()}
    facts = {name: value for name, value in asdict(progress).items() if name != "best"}
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, temporary, metadata={_PROGRESS: json.dumps(facts)})
    os.replace(temporary, path)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
