"""Settings that work on a laptop and cannot work in a pod, found before anything is sent to a cluster."""

import ipaddress
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

import fsspec

from contracts.config import Config
from contracts.errors import UserError
from contracts.ingestion.sources.list_files import QUERY_SCHEME
from models.knowledge.config import CascadeTeacherConfig
from pipelines.config import RunConfig
from pipelines.step_settings import WORKSPACE_MOUNT

_EXAMPLE: Final = "configs/cluster.yaml has settings that fit the manifests in infra/k8s"


def require_cluster_settings(config: RunConfig, parameters: Collection[str]) -> None:
    """Refuses a configuration of which a step could make nothing on a cluster.

    Args:
        config: the run configuration.
        parameters: names of the pipeline's parameters; what none of its steps reads is not looked at.

    Raises:
        UserError: lists every such setting with its remedy.
    """
    problems = list_setting_problems(config, parameters)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(f"{len(problems)} setting(s) cannot work in a pod:\n{listed}\n{_EXAMPLE}")


def list_setting_problems(config: RunConfig, parameters: Collection[str]) -> list[str]:
    """Each setting that a step could make nothing of, with its remedy after a semicolon."""
    checks = {
        "serving_config": _check_triton,
        "feature_config": _check_online_store,
        "knowledge_config": _check_teacher,
        "data_config": _check_sources,
    }
    return [problem for name, check in checks.items() if name in parameters for problem in check(config)]


def _check_triton(config: RunConfig) -> Iterator[str]:
    triton = config.serving.triton
    if triton.addresses:
        for address in triton.addresses:
            if is_loopback(address.rpartition(":")[0]):
                yield f"serving.triton.addresses: {address} is the pod itself; name the cluster's servers"
    elif is_loopback(triton.host):
        yield f"serving.triton.host = {triton.host} is the pod itself; set the Service's name: triton"


def _check_online_store(config: RunConfig) -> Iterator[str]:
    features = config.features
    if features.online_store == "sqlite":
        yield (
            "features.online_store = sqlite is a file for one machine; set redis, whose address comes from "
            "the secret `reaseq-pipelines`"
        )
        return
    host = features.redis_connection.partition(",")[0].rpartition(":")[0]
    if is_loopback(host):
        yield f"features.redis_connection names {host}, the pod itself; leave it out, or name the Service"


def _check_teacher(config: RunConfig) -> Iterator[str]:
    teacher = config.knowledge.teacher
    yield from _check_one_teacher(teacher, "knowledge.teacher")
    for role in ("student", "fallback") if isinstance(teacher, CascadeTeacherConfig) else ():
        yield from _check_one_teacher(getattr(teacher, role), f"knowledge.teacher.{role}")


def _check_one_teacher(teacher: Config, key: str) -> Iterator[str]:
    base_url = getattr(teacher, "base_url", None)
    if base_url and is_loopback(urlsplit(base_url).hostname or ""):
        yield f"{key}.base_url = {base_url} is the pod itself; set the Service's: http://vllm:8000/v1"
    for name in ("recordings", "folder", "calibration", "examples", "model"):
        path = getattr(teacher, name, None)
        # A model may also be the name of one on a hub.
        if path is None or (name == "model" and not Path(path).is_dir()):
            continue
        if not PurePosixPath(path).is_relative_to(WORKSPACE_MOUNT):
            yield (
                f"{key}.{name} = {path} is a path of this machine; copy it to the claim and "
                f"name it {WORKSPACE_MOUNT}/data/{PurePosixPath(path).name}"
            )


def _check_sources(config: RunConfig) -> Iterator[str]:
    for name in ("items", "events") if config.data else ():
        uri = getattr(config.data, name).uri
        scheme, separator, rest = uri.partition("://")
        if uri.startswith(QUERY_SCHEME):
            continue
        if not separator or scheme in {"file", "local"}:
            path = PurePosixPath(rest if separator else uri)
            if not path.is_relative_to(WORKSPACE_MOUNT):
                yield (
                    f"data.{name}.uri = {uri} is a path of this machine; copy the file to the claim and "
                    f"name it {WORKSPACE_MOUNT}/data/{path.name}, or give a URL that a pod can read"
                )
        elif is_loopback(urlsplit(uri).hostname or ""):
            yield f"data.{name}.uri = {uri} is the pod itself; give an address that a pod can read"
        else:
            yield from _check_driver(name, uri, scheme)


def _check_driver(name: str, uri: str, scheme: str) -> Iterator[str]:
    # The image holds what this environment holds: both come from one lock.
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        yield (
            f"data.{name}.uri = {uri} needs a driver ({error}) that our image does not hold either; "
            f"derive an image that installs it, or copy the data to the claim: {WORKSPACE_MOUNT}/data"
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means the machine that says it."""
    bare_host = host.strip("[]").rstrip(".").lower()
    if bare_host == "localhost" or bare_host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(bare_host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or (mapped or address).is_unspecified
