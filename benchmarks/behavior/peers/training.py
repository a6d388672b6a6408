"""The one training loop of all peers: AdamW, random users, the best epoch by validation recall@10."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.behavior.peers.log import PeerLog, Recommender, measure_validation_recall
from contracts.array_types import IntArray
from contracts.config import Config


class PeerConfig(Config):
    """Size and training of a peer; the defaults are those of the behavior model."""

    dimension: int = 128
    """Width of the hidden states."""
    num_layers: int = 2
    """Transformer blocks."""
    num_heads: int = 4
    """Attention heads."""
    dropout: float = 0.2
    """In the blocks and on their input."""
    epochs: int = 24
    """Passes at most."""
    patience: int = 4
    """Epochs without a better validation before training ends."""
    batch_size: int = 64
    """Users per step."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW; falls to zero over the epochs in a straight line."""
    weight_decay: float = 0.01
    """Of AdamW."""
    max_gradient_norm: float = 1.0
    """Gradients are clipped here."""
    seed: int = 0
    """Of initialization, order, masks and dropout."""


Loss = Callable[[IntArray, torch.Generator], Tensor]
"""Histories [B, T] -> the mean loss."""


def train_peer_network(
    network: nn.Module, loss: Loss, recommend: Recommender, log: PeerLog, config: PeerConfig
) -> int:
    """Trains in place and returns the kept epoch, counted from 1.

    Args:
        network: what is trained.
        loss: the objective.
        recommend: how the network infers, for validation.
        log: the visible log; users with one behavior teach nothing.
        config: the settings.
    """
    parameters = network.parameters()
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(config.seed)
    best_recall, best_epoch, best_state = -1.0, 0, network.state_dict()
    for epoch in range(1, config.epochs + 1):
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - (epoch - 1) / config.epochs)
        network.train()
        for histories in _iter_user_batches(log, config, epoch):
            optimizer.zero_grad(set_to_none=True)
            loss(histories, generator).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), config.max_gradient_norm)
            optimizer.step()
        network.eval()
        validation_recall = measure_validation_recall(log, recommend)
        print(
            f"{type(network).__name__}, epoch {epoch}: validation recall@10 {validation_recall:.4f}",
            flush=True,
        )
        if validation_recall > best_recall:
            best_recall, best_epoch, best_state = (
                validation_recall,
                epoch,
                {name: value.clone() for name, value in network.state_dict().items()},
            )
        elif epoch - best_epoch >= config.patience:
            break
    network.load_state_dict(best_state)
    return best_epoch


def _iter_user_batches(log: PeerLog, config: PeerConfig, epoch: int) -> list[IntArray]:
    """Users in random order; those of a batch have histories of like length, so that little is padding."""
    rng = np.random.default_rng((config.seed, epoch))
    history_lengths = log.history_lengths
    users = rng.permutation(np.flatnonzero(history_lengths > 1))
    users = users[np.argsort(history_lengths[users] + rng.random(len(users)) * 3, kind="stable")]
    batch_starts = rng.permutation(np.arange(0, len(users), config.batch_size))
    batch_users = [users[batch_start : batch_start + config.batch_size] for batch_start in batch_starts]
    return [log.histories[batch_rows, : history_lengths[batch_rows].max()] for batch_rows in batch_users]
