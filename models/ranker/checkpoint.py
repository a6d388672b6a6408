"""Checkpoints: everything that training needs to go on exactly where it was killed."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_FILE = "checkpoint.pt"


@dataclass
class Progress:
    """Where training stands."""

    epoch: int = 0
    """Epochs that are complete."""
    step: int = 0
    """Steps done in the epoch under way."""
    best_metric: float = -1.0
    """Best validation NDCG@10 so far."""
    best_epoch: int = 0
    """The epoch that gave it."""
    finished: bool = False
    """Has training come to its end?"""
    loss_sum: float = 0.0
    """Of the steps done in the epoch under way."""
    losses: list[float] = field(default_factory=list)
    """Mean loss of a step of each epoch."""


@dataclass
class Checkpoint:
    """A moment of training."""

    progress: Progress
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    """Running average of the weights."""
    best: dict[str, Tensor]
    """Averaged weights of the best epoch so far."""
    optimizer: dict[str, Any]


def save_checkpoint(checkpoint: Checkpoint, folder: Path, *, run: str) -> None:
    """Writes a checkpoint atomically; `run` names the inputs and config that it belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{_FILE}.{os.getpid()}.tmp"
    torch.save({"run": run, **vars(checkpoint), "progress": vars(checkpoint.progress)}, temporary)
    os.replace(temporary, folder / _FILE)


def load_checkpoint(folder: Path, *, run: str, device: torch.device) -> Checkpoint | None:
    """Reads the checkpoint of the same run, or None: of other inputs or another config nothing is resumed."""
    path = folder / _FILE
    if not path.is_file():
        return None
    state = torch.load(path, map_location=device, weights_only=True)
    if state.pop("run") != run:
        return None
    return Checkpoint(**(state | {"progress": Progress(**state["progress"])}))
