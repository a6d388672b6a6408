from pathlib import Path

import pytest

from simulation.config import SimulationConfig
from simulation.write_shop import write_shop

SMALL = SimulationConfig(num_items=240, num_users=300, num_days=20, coarse_category_share=0)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulation") / "shop"
    write_shop(SMALL, out=out)
    return out
