"""`reaseq dashboard`: opens the drift and lift dashboards in Evidently's UI."""

import argparse
import os
import subprocess

from contracts.errors import UserError
from reaseq.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--port", type=int, default=8085, help="port on 127.0.0.1 (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs Evidently's UI in the foreground."""
    from serving.processes import require_free_port

    workspace = config_of(args).home / "monitoring"
    if not workspace.is_dir():
        raise UserError(f"no report in {workspace} yet; `reaseq report` writes them")
    require_free_port(args.port, host="127.0.0.1", purpose="the dashboard", setting="--port")
    from monitoring.workspace import ui_command  # Evidently takes long to import: not before the checks

    print(f"http://127.0.0.1:{args.port} (ready in about half a minute; stop with Ctrl-C)", flush=True)
    # Evidently reports its use to its makers unless told not to.
    return subprocess.run(ui_command(workspace, port=args.port), env=os.environ | {"DO_NOT_TRACK": "1"}).returncode
