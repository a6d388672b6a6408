"""Trains on several processes or machines; see `models/workers.py` for the command."""

import sys
from pathlib import Path

from models.ranker.config import RankerConfig
from models.ranker.train import fit_together


def main(training_set: str, dataset: str, item_embeddings: str, config: str, checkpoints: str) -> None:
    """Trains as one worker; `config` is a file with the JSON of `RankerConfig`."""
    settings = RankerConfig.model_validate_json(Path(config).read_text(encoding="utf-8"))
    fit_together(Path(training_set), Path(dataset), Path(item_embeddings), settings, Path(checkpoints))


if __name__ == "__main__":
    main(*sys.argv[1:])
