"""Trains on several processes or machines; `models/training/worker_processes.py` has the command."""

import sys
from pathlib import Path

from models.behavior.config import BehaviorConfig
from models.behavior.training.train_behavior_model import train_as_worker


def main(dataset: str, item_embeddings: str, config: str, checkpoints: str) -> None:
    """Trains as one worker; `config` is a file with the JSON of `BehaviorConfig`."""
    settings = BehaviorConfig.model_validate_json(Path(config).read_text(encoding="utf-8"))
    train_as_worker(Path(dataset), Path(item_embeddings), settings, Path(checkpoints))


if __name__ == "__main__":
    main(*sys.argv[1:])
