"""Training progress on disk: written atomically after every epoch, read without unpickling code."""

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from models.behavior.network import Denoiser


class Progress(NamedTuple):
    """How far training has come."""

    train_losses: list[float]
    """One per finished epoch."""
    validation_losses: list[float]
    best: dict[str, Tensor]
    """Weights of the best epoch so far."""


def load_progress(path: Path, denoiser: Denoiser, optimizer: torch.optim.Optimizer) -> Progress:
    """Restores the network and the optimizer from `path`; a fresh start where there is no file."""
    if not path.is_file():
        return Progress([], [], {})
    state = torch.load(path, weights_only=True)
    denoiser.load_state_dict(state["denoiser"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(state["train_losses"], state["validation_losses"], state["best"])


def save_progress(path: Path, progress: Progress, denoiser: Denoiser, optimizer: torch.optim.Optimizer) -> None:
    """Writes everything the next epoch depends on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    state = {"denoiser": denoiser.state_dict(), "optimizer": optimizer.state_dict(), **progress._asdict()}
    torch.save(state, temporary)
    os.replace(temporary, path)
