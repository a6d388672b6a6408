"""`reaseq status`: who is in service, and how the last runs ended; on this machine or on a cluster."""

import argparse
import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from contracts.errors import UserError
from reaseq.cluster_options import add_cluster_options
from reaseq.config_options import add_config_options, load_run_config

if TYPE_CHECKING:
    from datetime import datetime

    from serving.deployment.routes import Routes

EXAMPLES = {
    "reaseq status": "the routes of this machine",
    "reaseq status --gateway http://127.0.0.1:3000 --host https://kubeflow.example/pipeline --namespace me": (
        "a cluster: its routes through a forwarded port, its last runs and schedules"
    ),
}
_TIMEOUT_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    on_cluster = parser.add_argument_group("on a cluster")
    add_cluster_options(on_cluster, is_required=False)
    on_cluster.add_argument("--gateway", metavar="URL", help="gateway to ask who is in service")


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints routes, last runs and schedules, as far as was asked for."""
    if arguments.gateway:
        _print_gateway(arguments.gateway)
    elif not arguments.host:
        from serving.deployment.routes import read_routes

        _print_routes(read_routes(load_run_config(arguments).home / "serving"))
    if arguments.host:
        _print_runs(arguments)
    return 0


def read_gateway_status(url: str) -> dict[str, Any]:
    """What a gateway says of itself.

    Raises:
        UserError: none answers there, or one that is too old.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"'{url}' is not an address; write http://host:port")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/status", timeout=_TIMEOUT_S) as response:  # noqa: S310
            answer = json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise UserError(
            f"{url}/status answers HTTP {error.code}; is it a gateway of this version?"
        ) from error
    except (OSError, ValueError, HTTPException) as error:
        remedy = "kubectl port-forward svc/gateway 3000:80 leads to a cluster's"
        raise UserError(f"no gateway answers at {url} ({error}); {remedy}") from error
    if not isinstance(answer, dict) or not {"ready", "routes"} <= answer.keys():
        raise UserError(f"{url}/status answers, but not as a gateway of ours")
    return answer


def _print_gateway(url: str) -> None:
    from serving.deployment.routes import Routes

    status = read_gateway_status(url)
    if status["routes"] is None:
        print(f"gateway {url}: not ready: {status['waiting_for']}")
        return
    print(f"gateway {url}: {'ready' if status['ready'] else 'about to end'}")
    _print_routes(Routes.model_validate(status["routes"]))
    print(f"ready rankers: {', '.join(status['models'])}")


def _print_routes(routes: "Routes") -> None:
    print(f"routes {routes.revision} of {_tell_time(routes.created_at)}: {routes.note}")
    for name, arm in routes.arms.items():
        print(f"  {name}: {arm}")
    if routes.champion:
        print(f"champion: {routes.champion}")
    if routes.experiment_id:
        print(f"experiment: {routes.experiment_id}")


def _print_runs(arguments: argparse.Namespace) -> None:
    from pipelines.cluster.cluster_status import read_cluster_status
    from pipelines.compiled_package import COMPILED_FOLDER
    from reaseq.run_summary import print_table

    names = sorted(path.stem.replace("_", "-") for path in COMPILED_FOLDER.glob("*.yaml"))
    status = read_cluster_status(
        names, host=arguments.host, namespace=arguments.namespace, experiment=arguments.experiment
    )
    if status.last_runs:
        print("last run of each pipeline:")
        rows = [
            (run.pipeline, run.state, _tell_time(run.created_at), _tell_time(run.finished_at), run.url)
            for run in status.last_runs
        ]
        print_table(("pipeline", "state", "began", "ended", "page"), rows)
        for run in status.last_runs:
            if run.reason:
                print(f"{run.pipeline}: {run.reason}")
    else:
        print(f"no run of our pipelines in experiment '{arguments.experiment}'")
    if status.schedules:
        print("schedules:")
        on_off = {True: "enabled", False: "disabled"}
        print_table(
            ("name", "cron", "state"), [(s.name, s.cron, on_off[s.is_enabled]) for s in status.schedules]
        )


def _tell_time(time: "datetime | None") -> str:
    # A run that goes on has ended at the beginning of time, as the backend says it.
    return f"{time:%Y-%m-%d %H:%M} UTC" if time and time.year > 1970 else "-"
