"""Does the backend answer, is it new enough, and may this token make runs?"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from contracts.errors import UserError
from pipelines.cluster.cluster_client import Version, connect_to_cluster
from pipelines.cluster.patience import Patience
from pipelines.cluster.refusals import explain_cluster_errors
from pipelines.cluster.submit_run import find_experiment
from pipelines.doctor.check import Check

_REFUSED: Final = frozenset({401, 403})
_NO_SUCH_VERSION: Final = "00000000-0000-0000-0000-000000000000"
_ONE_TRY: Final = Patience(limit_s=0)
"""A doctor tells what is; it does not wait for better."""


def check_backend(
    host: str, *, namespace: str | None, experiment: str, oldest_backend: Version
) -> Iterator[Check]:
    """Asks the Pipelines API. Nothing is made on the cluster."""
    try:
        client = connect_to_cluster(
            host, namespace=namespace, patience=_ONE_TRY, oldest_backend=oldest_backend
        )
    except UserError as error:
        yield Check("backend", "missing", str(error))
        return
    oldest = ".".join(map(str, oldest_backend))
    version = client.get_kfp_healthz().tag_name or "of unknown version"
    yield Check("backend", "ok", f"Kubeflow Pipelines {version}; the packages need {oldest} or newer")
    where = f"namespace {namespace}" if namespace else "the cluster"
    may_list = f"kubectl auth can-i list runs.pipelines.kubeflow.org -n {namespace or 'kubeflow'}"
    yield _ask_right(
        f"token lists runs in {where}",
        lambda: client.list_runs(page_size=1, namespace=namespace),
        host=host,
        ask=may_list,
    )
    yield _ask_right(
        f"token lists schedules in {where}",
        lambda: client.list_recurring_runs(page_size=1, namespace=namespace),
        host=host,
        ask=may_list.replace("list runs.", "list jobs."),
    )
    yield _check_creation(client, host, namespace, experiment, where)


def _check_creation(client: Any, host: str, namespace: str | None, experiment: str, where: str) -> Check:
    """Posts a run of a pipeline version that cannot be there.

    The API server looks at the right before the version, so it refuses either the token or the version.
    """
    from kfp_server_api import V2beta1PipelineVersionReference, V2beta1Run  # type: ignore[import-untyped]

    subject = f"token creates runs in {where}, experiment {experiment}"
    ask = f"kubectl auth can-i create runs.pipelines.kubeflow.org -n {namespace or 'kubeflow'}"
    try:
        with explain_cluster_errors("find the experiment", host=host):
            found = find_experiment(client, experiment, namespace=namespace)
    except UserError as error:
        return Check(subject, "could not ask", str(error), ask)
    if found is None:
        return Check(subject, "could not ask", "the experiment is not there yet; `submit` makes it", ask)
    reference = V2beta1PipelineVersionReference(
        pipeline_id=_NO_SUCH_VERSION, pipeline_version_id=_NO_SUCH_VERSION
    )
    run = V2beta1Run(
        display_name="reaseq doctor",
        experiment_id=found.experiment_id,
        pipeline_version_reference=reference,
    )
    return _ask_right(
        subject, lambda: client._run_api.run_service_create_run(run=run), host=host, ask=ask, refused_as=True
    )


def _ask_right(
    subject: str, call: Callable[[], Any], *, host: str, ask: str, refused_as: bool = False
) -> Check:
    """One call, of which only the refusal for want of a right counts.

    Args:
        subject: what the right is.
        call: the call.
        host: for messages.
        ask: command that asks otherwise.
        refused_as: a refusal of the request itself shows the right as well.
    """
    from kfp_server_api import ApiException

    try:
        with explain_cluster_errors("ask", host=host):
            call()
    except UserError as error:
        cause = error.__cause__
        status = cause.status if isinstance(cause, ApiException) else 0
        if status in _REFUSED:
            remedy = "bind the role kubeflow-edit to its service account (Kubeflow's profiles do)"
            return Check(subject, "missing", str(error), remedy)
        if refused_as and status in {400, 404}:
            return Check(subject, "ok", "it may")
        return Check(subject, "could not ask", str(error), ask)
    return Check(subject, "ok", "it may")
