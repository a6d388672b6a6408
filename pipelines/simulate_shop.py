"""The embedded shop on a cluster: run once, it leaves its files in the workspace for `train_and_deploy`."""

from kfp import dsl

from components.simulate_shop.component import simulate_shop as simulate_shop_step
from pipelines.step_settings import disable_caching, mount_workspace


@dsl.pipeline(
    name="simulate-shop", description="Writes the embedded shop's catalogue and log into the workspace."
)
def simulate_shop(shop_config: str, workspace: str) -> None:
    """Writes the shop.

    Args:
        shop_config: JSON of `simulation.config.SimulationConfig`.
        workspace: folder (a mounted volume) that outlives the steps.
    """
    disable_caching(mount_workspace(simulate_shop_step(config=shop_config, workspace=workspace)))
