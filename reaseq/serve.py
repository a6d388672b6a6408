"""`reaseq serve`: starts Triton and the gateway with what was deployed, until interrupted."""

import argparse
import signal
import threading

from reaseq.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serves in the foreground."""
    from serving.local import LocalStack

    config = config_of(args)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    print("starting Triton and the gateway (about half a minute) ...", flush=True)
    with LocalStack(config.serving.at(config.home / "serving")) as stack:
        print(f"ready: {stack.url} (POST /rank, POST /events, /healthz, /metrics, /docs); stop with Ctrl-C", flush=True)
        stopped.wait()
    return 0
