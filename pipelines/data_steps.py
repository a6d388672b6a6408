"""The first steps of several DAGs: what is in service is found, and the data is read as it is now."""

from typing import Any, NamedTuple

from components.collect_log.component import collect_log
from components.digest_sources.component import digest_sources
from components.find_deployment.component import find_deployment
from components.ingest.component import ingest
from pipelines.step_settings import disable_caching, mount_workspace, pass_secrets


class IngestedData(NamedTuple):
    """The artifact `dataset`, and its address as a parameter."""

    dataset: Any
    uri: Any


def collect_and_ingest(
    *,
    data_config: str,
    served_log_config: str,
    event_log_config: str,
    workspace: str,
    code_version: str,
) -> IngestedData:
    """Both digests are arguments of ingest: where neither the sources changed nor anything new was served,
    ingest and all that follows come from the cache. The digests themselves never do."""
    digest_task = digest_sources(config=data_config)
    disable_caching(pass_secrets(mount_workspace(digest_task)))
    collect_task = collect_log(
        config=served_log_config, event_log_config=event_log_config, workspace=workspace
    )
    disable_caching(pass_secrets(mount_workspace(collect_task)))
    ingest_task = ingest(
        config=data_config,
        data_digest=digest_task.output,
        served_digest=collect_task.outputs["Output"],
        workspace=workspace,
        code_version=code_version,
    )
    mount_workspace(ingest_task)
    return IngestedData(ingest_task.outputs["dataset"], ingest_task.outputs["Output"])


def find_what_is_deployed(workspace: str) -> dict[str, Any]:
    """The outputs of `find_deployment`: name of the deployment, address of each artifact."""
    return dict(disable_caching(mount_workspace(find_deployment(workspace=workspace))).outputs)
