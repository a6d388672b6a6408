"""Settings that several tasks of the DAGs share."""

from typing import Any

from kfp import dsl, kubernetes

WORKSPACE_CLAIM = "reaseq-state"
"""PersistentVolumeClaim of the workspace on a cluster (infra/k8s/base); the gateway reads the same."""
WORKSPACE_MOUNT = "/var/lib/reaseq"
"""Where it is mounted, in steps as in the gateway: one claim, and so one run in service, a namespace."""
SECRET_NAME = "reaseq-pipelines"  # noqa: S105 - the name of a Kubernetes secret
SECRET_KEYS = ("REASEQ_REDIS", "REASEQ_EVENT_SINK", "OPENAI_API_KEY")
"""Keys of the (optional) secret that steps see as environment variables of the same name."""


def mount_workspace(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Mounts the workspace volume, on which caches, checkpoints, stores and perhaps the user's data lie."""
    kubernetes.mount_pvc(task, pvc_name=WORKSPACE_CLAIM, mount_path=WORKSPACE_MOUNT)
    return task


def pass_secrets(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Hands over the addresses and keys of the online store, the event sink and the teacher."""
    kubernetes.use_secret_as_env(
        task, secret_name=SECRET_NAME, secret_key_to_env={key: key for key in SECRET_KEYS}, optional=True
    )
    return task


def import_artifact(uri: Any, artifact_class: type[dsl.Artifact] = dsl.Dataset) -> Any:
    """The artifact at an address that only the run knows; to the cache the same address is the same one."""
    return dsl.importer(artifact_uri=uri, artifact_class=artifact_class, reimport=False).output


def disable_caching(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Turns caching off: the task changes the world outside its artifacts."""
    task.set_caching_options(enable_caching=False)
    return task
