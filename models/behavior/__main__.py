"""Trains on several processes or machines; see `workers.py` for the command."""

import sys
from pathlib import Path

from models.behavior.config import BehaviorConfig
from models.behavior.train import fit_together


def main(dataset: str, item_embeddings: str, config: str, checkpoints: str) -> None:
    """Trains as one worker; `config` is a file with the JSON of `BehaviorConfig`."""
    settings = BehaviorConfig.model_validate_json(Path(config).read_text(encoding="utf-8"))
    fit_together(Path(dataset), Path(item_embeddings), settings, Path(checkpoints))


if __name__ == "__main__":
    main(*sys.argv[1:])
