"""The embedded shop on a cluster: run it once, then `train_and_deploy` finds the shop's files in the workspace."""

from kfp import dsl

from components.simulate_shop.component import simulate_shop as simulate_shop_step
from pipelines.steps import side_effect, with_workspace


@dsl.pipeline(name="simulate-shop", description="Writes the embedded shop's catalogue and log into the workspace.")
def simulate_shop(shop_config: str, workspace: str) -> None:
    """Writes the shop.

    Args:
        shop_config: JSON of `simulation.config.SimulationConfig`.
        workspace: folder (a mounted volume) that outlives the steps.
    """
    side_effect(with_workspace(simulate_shop_step(config=shop_config, workspace=workspace)))
