"""Sends a compiled package to a Kubeflow Pipelines cluster and starts a run of it."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import UserError
from pipelines.cluster.cluster_client import connect_to_cluster, explain_cluster_errors
from pipelines.compiled_package import CompiledPackage, check_arguments, read_package

_FINAL_STATES = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
_EQUALS = 1  # Kubeflow's filter operation


@dataclass(frozen=True, kw_only=True)
class SubmittedRun:
    """A run on the cluster."""

    run_id: str
    url: str
    """Its page in the Pipelines UI."""
    state: str
    """The last state seen, for example PENDING; after waiting SUCCEEDED or SKIPPED."""
    pipeline_id: str | None
    """None where the package traveled with the run instead of being uploaded."""
    version_id: str | None


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
) -> SubmittedRun:
    """Uploads a package (as a new version where its pipeline exists) and runs it.

    Args:
        package: Compiled pipeline YAML.
        arguments: Values of the pipeline's parameters.
        host: Base address of the Pipelines API, with its scheme.
        namespace: The profile's namespace on a multi-user cluster.
        experiment: Experiment to run in; made where there is none.
        run_name: Name of the run in the UI.
        pipeline_name: Name to upload under; None sends the package with the run.
        wait: Return only when the run has ended.
        poll_s: Seconds between two looks at the state while waiting.

    Raises:
        UserError: wrong package, arguments, host or credentials; or the awaited run failed or was canceled.
    """
    compiled_package = read_package(package)
    check_arguments(compiled_package, arguments)
    client = connect_to_cluster(host, namespace=namespace)
    with explain_cluster_errors("submit the run", host=host):
        version_arguments = find_or_upload_version(
            client, compiled_package, pipeline_name=pipeline_name, namespace=namespace
        )
        experiment_id = client.create_experiment(experiment, namespace=namespace).experiment_id
        run = client.run_pipeline(experiment_id, run_name, params=dict(arguments), **version_arguments)
        page_url = f"{host.rstrip('/')}/#/runs/details/{run.run_id}"
        run_state = _wait_for_end(client, run.run_id, url=page_url, poll_s=poll_s) if wait else str(run.state)
    return SubmittedRun(
        run_id=run.run_id,
        url=page_url,
        state=run_state,
        pipeline_id=version_arguments.get("pipeline_id"),
        version_id=version_arguments.get("version_id"),
    )


def find_or_upload_version(
    client: Any, package: CompiledPackage, *, pipeline_name: str | None, namespace: str | None
) -> dict[str, str]:
    """Finds the version of the pipeline that holds this very package, or uploads it.

    Returns:
        The arguments by which `kfp.Client` names what to run.
    """
    if pipeline_name is None:
        return {"pipeline_package_path": str(package.path)}
    same_name_pipelines = client.list_pipelines(
        filter=_filter_by_name(pipeline_name), namespace=namespace
    ).pipelines
    if same_name_pipelines:
        pipeline_id = same_name_pipelines[0].pipeline_id
    else:
        pipeline_id = client.upload_pipeline(
            str(package.path), pipeline_name, namespace=namespace
        ).pipeline_id
    # Versions are named by content. The first upload's own version bears the pipeline's name, so this adds
    # one more; from then on the same package is never uploaded twice.
    same_content_versions = client.list_pipeline_versions(
        pipeline_id, filter=_filter_by_name(package.version)
    ).pipeline_versions
    version = (
        same_content_versions[0]
        if same_content_versions
        else client.upload_pipeline_version(str(package.path), package.version, pipeline_id=pipeline_id)
    )
    return {"pipeline_id": pipeline_id, "version_id": version.pipeline_version_id}


def _filter_by_name(name: str) -> str:
    predicate = {"operation": _EQUALS, "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


def _wait_for_end(client: Any, run_id: str, *, url: str, poll_s: float) -> str:
    # Not kfp's own wait: that one does not know the state CANCELED and polls on until its time limit.
    while (run_state := str(client.get_run(run_id).state)) not in _FINAL_STATES:
        time.sleep(poll_s)
    if run_state in {"FAILED", "CANCELED"}:
        raise UserError(f"run {run_id} ended {run_state}; its steps and logs: {url}")
    return run_state
