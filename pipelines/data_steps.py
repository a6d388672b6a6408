"""The first steps of several DAGs: what was served is collected, and read beside the history."""

from typing import Any

from components.collect_log.component import collect_log
from components.ingest.component import ingest
from pipelines.step_settings import disable_caching, mount_workspace, pass_secrets


def collect_and_ingest(
    *,
    data_config: str,
    data_digest: str,
    served_log_config: str,
    event_log_config: str,
    workspace: str,
    code_version: str,
) -> Any:
    """The artifact `dataset`. The collection's digest is an argument of ingest: where nothing new was served,
    ingest and all that follows come from the cache."""
    collect_task = collect_log(
        config=served_log_config, event_log_config=event_log_config, workspace=workspace
    )
    disable_caching(pass_secrets(mount_workspace(collect_task)))
    ingest_task = ingest(
        config=data_config,
        data_digest=data_digest,
        served_digest=collect_task.outputs["Output"],
        workspace=workspace,
        code_version=code_version,
    )
    return mount_workspace(ingest_task).outputs["dataset"]
