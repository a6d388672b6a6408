"""Options that several verbs share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.config import RunConfig


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--config FILE` and `--set section.key=value`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="run configuration (default: the embedded shop)")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one value, as in ranker.epochs=3 (may be given several times)",
    )


def config_of(args: argparse.Namespace) -> "RunConfig":
    """The run configuration that the options name."""
    from pipelines.config import load_config

    return load_config(args.config, args.overrides)
