"""Notes what a refresh made, so that the next one and the monitor go on from it."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def record_refresh(
    deployment: str,
    dataset_uri: str,
    features_uri: str,
    workspace: str,
    knowledge_uri: str = "",
    item_embeddings_uri: str = "",
) -> None:
    """Notes new artifacts in the record of the deployment that the refresh worked for; never cached.

    Args:
        deployment: name of the deployment, from `find_deployment`.
        dataset_uri: address of the new dataset.
        features_uri: address of the new feature tables.
        workspace: folder that outlives the step; the records lie in it.
        knowledge_uri: address of the new knowledge; empty where it stays.
        item_embeddings_uri: address of the new item embeddings; empty where they stay.
    """
    from pathlib import Path

    from serving.deployment.deployment_records import record_refresh as run

    new_uris = {
        "dataset": dataset_uri,
        "features": features_uri,
        "knowledge": knowledge_uri,
        "item_embeddings": item_embeddings_uri,
    }
    run(deployment, new_uris, state=Path(workspace) / "serving")
