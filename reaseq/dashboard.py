"""`reaseq dashboard`: opens the drift and lift dashboards in Evidently's UI."""

import argparse
import os
import subprocess

from contracts.errors import UserError
from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq dashboard": "after the first report, on http://127.0.0.1:8085",
    "reaseq dashboard --port 9000": "on another port",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--port", type=int, default=8085, help="port on 127.0.0.1 (default: %(default)s)")


def run_verb(arguments: argparse.Namespace) -> int:
    """Runs Evidently's UI in the foreground."""
    from serving.deployment.server_processes import require_free_port

    report_folder = load_run_config(arguments).home / "monitoring"
    if not report_folder.is_dir():
        raise UserError(f"no report in {report_folder} yet; `reaseq report` writes them")
    require_free_port(arguments.port, host="127.0.0.1", purpose="the dashboard", setting="--port")
    # Evidently takes long to import: not before the checks.
    from monitoring.evidently_workspace import build_ui_command

    print(f"http://127.0.0.1:{arguments.port} (ready in about half a minute; stop with Ctrl-C)", flush=True)
    # Evidently reports its use to its makers unless told not to.
    environment = os.environ | {"DO_NOT_TRACK": "1"}
    return subprocess.run(build_ui_command(report_folder, port=arguments.port), env=environment).returncode
