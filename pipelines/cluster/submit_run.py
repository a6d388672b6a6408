"""Sends a compiled package to a Kubeflow Pipelines cluster and starts a run of it, exactly one."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.digests import digest_value
from contracts.errors import UserError
from pipelines.cluster.cluster_client import connect_to_cluster
from pipelines.cluster.patience import Patience
from pipelines.cluster.refusals import explain_cluster_errors
from pipelines.cluster.step_progress import StepProgress
from pipelines.compiled_package import CompiledPackage, check_arguments, read_package

FINAL_STATES = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
"""States in which a run stays."""
CALLING = Patience()
"""For everything that a user sits and waits for."""
WAITING = Patience(limit_s=3600.0, longest_pause_s=60.0)
"""For a run that is waited for: a cluster may be away for an hour of upgrade."""
_EQUALS, _IS_SUBSTRING = 1, 9  # Kubeflow's filter operations
_PAGE_SIZE = 100
# While a token is renewed, or a login page stands before the API.
_LOGIN_STATUS = frozenset({401, 403})


@dataclass(frozen=True, kw_only=True)
class SubmittedRun:
    """A run on the cluster."""

    run_id: str
    url: str
    """Its page in the Pipelines UI."""
    state: str
    """The last state seen, for example PENDING; after waiting the one in which it ended."""
    pipeline_id: str | None
    """None where the package traveled with the run instead of being uploaded."""
    version_id: str | None
    is_adopted: bool = False
    """The same work was under way already, so no second run was made."""


def submit_pipeline(
    package: Path,
    arguments: Mapping[str, Any],
    *,
    host: str,
    namespace: str | None = None,
    experiment: str,
    run_name: str,
    pipeline_name: str | None = None,
    wait: bool = False,
    poll_s: float = 10.0,
    patience: Patience = CALLING,
    waiting: Patience = WAITING,
) -> SubmittedRun:
    """Uploads a package (as a new version where its pipeline exists) and runs it.

    The run's name ends with a key of package and arguments. By it a run is found again whose answer was lost,
    and one of the same content that is still under way: two of them would fight over one workspace.

    Args:
        package: Compiled pipeline YAML.
        arguments: Values of the pipeline's parameters.
        host: Base address of the Pipelines API, with its scheme.
        namespace: The profile's namespace on a multi-user cluster.
        experiment: Experiment to run in; made where there is none.
        run_name: Name of the run in the UI; one that no earlier run bears.
        pipeline_name: Name to upload under; None sends the package with the run.
        wait: Return only when the run has ended; meanwhile tell on stderr which step begins and ends.
        poll_s: Seconds between two looks at the state while waiting.
        patience: With what failing calls are repeated.
        waiting: The same for looks at a run that is waited for.

    Raises:
        UserError: wrong package, arguments, host or credentials; or the cluster failed for too long.
    """
    compiled_package = read_package(package)
    check_arguments(compiled_package, arguments)
    client = connect_to_cluster(
        host, namespace=namespace, patience=patience, oldest_backend=compiled_package.oldest_backend
    )
    key = digest_value([compiled_package.version, dict(arguments)])
    keyed_name = f"{run_name} {key}"
    with explain_cluster_errors("submit the run", host=host):
        version_arguments = find_or_upload_version(
            client, compiled_package, pipeline_name=pipeline_name, namespace=namespace, patience=patience
        )
        experiment_id = find_or_create_experiment(client, experiment, namespace=namespace, patience=patience)

        def find_run() -> Any:
            runs = list(list_runs(client, experiment_id, "display_name", _IS_SUBSTRING, key))
            ours = [run for run in runs if run.display_name == keyed_name]
            going_on = [run for run in runs if str(run.state) not in {*FINAL_STATES, "CANCELING"}]
            return next(iter([*ours, *going_on]), None)

        run = patience.write(
            lambda: client.run_pipeline(
                experiment_id, keyed_name, params=dict(arguments), **version_arguments
            ),
            find=find_run,
        )
    page_url = f"{host.rstrip('/')}/#/runs/details/{run.run_id}"
    run_state = str(run.state)
    if wait:
        # Said first: whoever stops waiting must know where the run goes on.
        print(f"run {page_url}", file=sys.stderr)
        with explain_cluster_errors(f"follow the run {page_url}, which was submitted", host=host):
            run_state = _wait_for_end(client, run.run_id, poll_s=poll_s, waiting=waiting)
    return SubmittedRun(
        run_id=run.run_id,
        url=page_url,
        state=run_state,
        pipeline_id=version_arguments.get("pipeline_id"),
        version_id=version_arguments.get("version_id"),
        is_adopted=run.display_name != keyed_name,
    )


def find_or_upload_version(
    client: Any,
    package: CompiledPackage,
    *,
    pipeline_name: str | None,
    namespace: str | None,
    patience: Patience,
) -> dict[str, str]:
    """Finds the version of the pipeline that holds this very package, or uploads it.

    Returns:
        The arguments by which `kfp.Client` names what to run.
    """
    if pipeline_name is None:
        return {"pipeline_package_path": str(package.path)}
    pipeline_id = patience.write(
        lambda: client.upload_pipeline(str(package.path), pipeline_name, namespace=namespace),
        find=lambda: find_pipeline(client, pipeline_name, namespace=namespace),
    ).pipeline_id
    # Versions are named by content. The first upload's own version bears the pipeline's name, so this adds
    # one more; from then on the same package is never uploaded twice.
    by_content = _filter_by("display_name", _EQUALS, package.version)
    version = patience.write(
        lambda: client.upload_pipeline_version(str(package.path), package.version, pipeline_id=pipeline_id),
        find=lambda: _first(client.list_pipeline_versions(pipeline_id, filter=by_content).pipeline_versions),
    )
    return {"pipeline_id": pipeline_id, "version_id": version.pipeline_version_id}


def find_pipeline(client: Any, name: str, *, namespace: str | None) -> Any | None:
    """Finds an uploaded pipeline; None where there is none."""
    by_name = _filter_by("display_name", _EQUALS, name)
    return _first(client.list_pipelines(filter=by_name, namespace=namespace).pipelines)


def find_version(
    client: Any, package: CompiledPackage, pipeline_name: str, *, namespace: str | None
) -> str | None:
    """Finds the uploaded version that holds this very package; None where there is none."""
    pipeline = find_pipeline(client, pipeline_name, namespace=namespace)
    if pipeline is None:
        return None
    by_content = _filter_by("display_name", _EQUALS, package.version)
    versions = client.list_pipeline_versions(pipeline.pipeline_id, filter=by_content).pipeline_versions
    version = _first(versions)
    return None if version is None else str(version.pipeline_version_id)


def find_or_create_experiment(client: Any, name: str, *, namespace: str | None, patience: Patience) -> str:
    """Finds the experiment, or makes it; returns its id."""
    # kfp's own create_experiment looks first, so it may be repeated.
    experiment = patience.read(lambda: client.create_experiment(name, namespace=namespace))
    if str(experiment.storage_state) == "ARCHIVED":
        raise UserError(
            f"experiment '{name}' is archived, and what runs in it with it; restore it in the UI, or choose "
            "another by --experiment"
        )
    return str(experiment.experiment_id)


def find_experiment(client: Any, name: str, *, namespace: str | None) -> Any | None:
    """Finds the experiment; None where there is none."""
    by_name = _filter_by("display_name", _EQUALS, name)
    return _first(client.list_experiments(filter=by_name, namespace=namespace).experiments)


def list_runs(client: Any, experiment_id: str, key: str, operation: int, value: str) -> Iterator[Any]:
    """The runs of an experiment that a filter keeps, over all pages."""
    return iterate_pages(
        lambda page_token: client.list_runs(
            page_token=page_token,
            page_size=_PAGE_SIZE,
            experiment_id=experiment_id,
            filter=_filter_by(key, operation, value),
        ),
        "runs",
    )


def iterate_pages(read_page: Callable[[str], Any], rows: str) -> Iterator[Any]:
    """The rows of all pages of a list.

    Raises:
        UserError: the pages lead in a circle.
    """
    page_token, earlier_tokens = "", set()
    while True:
        page = read_page(page_token)
        yield from getattr(page, rows) or ()
        page_token = page.next_page_token
        if not page_token:
            return
        if page_token in earlier_tokens:
            raise UserError(f"the cluster's list of {rows} has no end: page '{page_token}' came twice")
        earlier_tokens.add(page_token)


def _first(rows: list[Any] | None) -> Any:
    return rows[0] if rows else None


def _filter_by(key: str, operation: int, value: str) -> str:
    predicate = {"operation": operation, "key": key, "stringValue": value}
    return json.dumps({"predicates": [predicate]})


def _wait_for_end(client: Any, run_id: str, *, poll_s: float, waiting: Patience) -> str:
    # Not kfp's own wait: that one does not know the state CANCELED and polls on until its time limit.
    progress = StepProgress()
    while True:
        run = waiting.read(lambda: client.get_run(run_id), also=_LOGIN_STATUS)
        progress.follow(run)
        if str(run.state) in FINAL_STATES:
            return str(run.state)
        waiting.sleep(poll_s)
