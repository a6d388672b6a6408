"""Writes the embedded shop into the workspace."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def simulate_shop(config: str, workspace: str, metrics: dsl.Output[dsl.Metrics]) -> None:
    """Simulates a catalogue and a behavior log, for trying the pipelines without data of one's own.

    Args:
        config: JSON of `simulation.config.SimulationConfig`.
        workspace: folder that outlives the step; the shop is written to `shop` in it.
        metrics: items, users, impressions, clicks and orders.
    """
    from pathlib import Path

    from components.step_support import log_values
    from contracts.artifacts import read_lineage
    from simulation.config import SimulationConfig
    from simulation.write_shop import write_shop

    out = Path(workspace) / "shop"
    write_shop(SimulationConfig.model_validate_json(config), out=out)
    log_values(read_lineage(out).metrics, metrics)
