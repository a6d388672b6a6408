"""Trains on several processes or machines; `models/training/worker_processes.py` has the command."""

import sys
from pathlib import Path

from models.ranker.config import RankerConfig
from models.ranker.training.train_ranker import train_as_worker


def main(training_set: str, dataset: str, item_embeddings: str, config: str, checkpoints: str) -> None:
    """Trains as one worker; `config` is a file with the JSON of `RankerConfig`."""
    settings = RankerConfig.model_validate_json(Path(config).read_text(encoding="utf-8"))
    train_as_worker(Path(training_set), Path(dataset), Path(item_embeddings), settings, Path(checkpoints))


if __name__ == "__main__":
    main(*sys.argv[1:])
