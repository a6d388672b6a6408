"""Asks everything that a run will need, before anything is submitted."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.cluster.cluster_settings import list_setting_problems
from pipelines.compiled_package import CompiledPackage
from pipelines.config import RunConfig
from pipelines.doctor.check import Check
from pipelines.doctor.check_backend import check_backend
from pipelines.doctor.check_namespace import check_namespace
from pipelines.doctor.check_packages import check_packages
from pipelines.doctor.check_services import check_services
from pipelines.doctor.kubernetes_api import CannotAskError, KubernetesApi
from pipelines.doctor.package_needs import list_namespace_needs

_STANDALONE_NAMESPACE = "kubeflow"


def examine_cluster(
    config: RunConfig,
    *,
    host: str | None,
    namespace: str | None,
    experiment: str,
    packages_folder: Path,
    gateway_url: str | None = None,
) -> Iterator[Check]:
    """Yields one check after the other, the quickest first.

    Args:
        config: the run configuration.
        host: base address of the Pipelines API; None leaves the backend unasked.
        namespace: of the profile; None on a single-user installation, whose steps run in `kubeflow`.
        experiment: experiment that runs go into.
        packages_folder: the compiled packages.
        gateway_url: where the gateway is reached from here.
    """
    from pipelines.compile_pipelines import PIPELINES

    packages, package_checks = check_packages(packages_folder, list(PIPELINES))
    yield from package_checks
    yield from _check_settings(config, packages)
    if host:
        oldest_backend = max((package.oldest_backend for package in packages), default=(2, 15))
        yield from check_backend(
            host, namespace=namespace, experiment=experiment, oldest_backend=oldest_backend
        )
    else:
        yield Check("backend", "could not ask", "no --host was given", "name the Pipelines API by --host")
    steps_namespace = namespace or _STANDALONE_NAMESPACE
    api, no_api = None, ""
    try:
        api = KubernetesApi(steps_namespace)
    except CannotAskError as error:
        no_api = str(error)
    needs = list_namespace_needs(packages, config)
    yield from check_namespace(needs, namespace=steps_namespace, api=api, no_api=no_api)
    yield from check_services(
        config, namespace=steps_namespace, api=api, no_api=no_api, gateway_url=gateway_url
    )


def _check_settings(config: RunConfig, packages: list[CompiledPackage]) -> Iterator[Check]:
    parameters = {name for package in packages for name in package.parameters}
    problems = list_setting_problems(config, parameters)
    for problem in problems:
        subject, _, remedy = problem.partition("; ")
        yield Check("settings", "missing", subject, remedy)
    if not problems:
        yield Check("settings", "ok", "nothing in the configuration means this machine alone")
