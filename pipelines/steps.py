"""Settings that several tasks of the DAGs share."""

from kfp import dsl, kubernetes

WORKSPACE_CLAIM = "reaseq-state"
"""PersistentVolumeClaim that holds the workspace on a cluster (infra/k8s/base); the gateway reads the same."""
WORKSPACE_MOUNT = "/var/lib/reaseq"
"""Where it is mounted, in steps as in the gateway: one claim, and so one run in service, a namespace."""


def with_workspace(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Mounts the workspace volume, on which caches, checkpoints and stores outlive the task."""
    kubernetes.mount_pvc(task, pvc_name=WORKSPACE_CLAIM, mount_path=WORKSPACE_MOUNT)
    return task


def side_effect(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Turns caching off: the task changes the world outside its artifacts."""
    task.set_caching_options(enable_caching=False)
    return task
