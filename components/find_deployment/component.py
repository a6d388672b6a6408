"""Says which artifacts stand behind the rankers in service."""

from typing import NamedTuple

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def find_deployment(workspace: str) -> NamedTuple(  # type: ignore[valid-type]
    "Deployment",
    [
        ("deployment", str),
        ("deployed_knowledge_uri", str),
        ("deployed_embeddings_uri", str),
        ("dataset_uri", str),
        ("item_embeddings_uri", str),
        ("behavior_model_uri", str),
        ("features_uri", str),
        ("evaluation_uri", str),
    ],
):
    """Reads routes and deployment records; never cached, since deployments and rollbacks happen at any time.

    Args:
        workspace: folder that outlives the step; routes and records lie in it.

    Returns:
        The deployment's name; knowledge and item embeddings as they were deployed, from which a refresh of
        the catalogue starts; and each artifact as the last refreshes left it.
    """
    from collections import namedtuple
    from pathlib import Path

    from serving.deployment.deployment_records import find_deployment as run

    record = run(Path(workspace) / "serving")
    current = record.current_artifacts
    values = {
        "deployment": record.deployment,
        "deployed_knowledge_uri": record.artifacts.knowledge,
        "deployed_embeddings_uri": record.artifacts.item_embeddings,
        "dataset_uri": current.dataset,
        "item_embeddings_uri": current.item_embeddings,
        "behavior_model_uri": current.behavior_model,
        "features_uri": current.features,
        "evaluation_uri": current.evaluation,
    }
    return namedtuple("Deployment", values)(**values)
