"""`reaseq serve`: starts Triton and the gateway with what was deployed, until interrupted."""

import argparse
import threading

from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq serve": "serve what the last run deployed; Ctrl-C stops both servers",
    "reaseq serve --set serving.gateway.port=3001": "on another port",
}
add_arguments = add_config_options


def run_verb(arguments: argparse.Namespace) -> int:
    """Serves in the foreground until a signal comes."""
    from serving.deployment.local_stack import LocalStack

    run_config = load_run_config(arguments)
    print("starting Triton and the gateway (about half a minute) ...", flush=True)
    with LocalStack(run_config.serving.in_folders(run_config.home / "serving")) as stack:
        endpoints = "POST /rank, POST /events, /healthz, /metrics, /docs"
        print(f"ready: {stack.url} ({endpoints}); stop with Ctrl-C", flush=True)
        threading.Event().wait()
    return 0
