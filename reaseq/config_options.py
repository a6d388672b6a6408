"""The options `--config` and `--set`, which most verbs share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import shtab

if TYPE_CHECKING:
    from pipelines.config import RunConfig


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--config FILE` and `--set section.key=value`."""
    config_option = parser.add_argument(
        "--config", type=Path, metavar="FILE", help="run configuration (default: the embedded shop)"
    )
    config_option.complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one value, as in ranker.max_epochs=3 (may be given several times)",
    )


def load_run_config(arguments: argparse.Namespace) -> "RunConfig":
    """Loads the run configuration that the options name."""
    from pipelines.config import load_config

    return load_config(arguments.config, arguments.overrides)
