"""Says which ranker is champion."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def find_champion(workspace: str) -> str:
    """Reads the routes; never cached, since promotions happen outside the pipeline.

    Args:
        workspace: folder that outlives the step; the routes lie in it.

    Returns:
        The champion's folder; empty as long as none was promoted.
    """
    from pathlib import Path

    from serving.experiments.champion import find_champion as run

    champion = run(Path(workspace) / "serving")
    return str(champion) if champion else ""
