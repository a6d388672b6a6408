"""The README's examples of Feast and Triton without the gateway run as they stand there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_shop import Served, free_ports

from models.ranker.inputs.ranker_spec import GOLDEN_FILE, RankerSpec
from serving.deployment.deploy_rankers import deploy_rankers
from serving.triton.triton_client import make_channel_target
from serving.triton.triton_server import start_triton

pytestmark = pytest.mark.integration

README = Path(__file__).parents[3] / "serving" / "README.md"


def _examples() -> list[str]:
    section = README.read_text(encoding="utf-8").split("## Without the gateway")[1]
    return re.findall(r"```python\n(.*?)```", section, re.S)


def test_feast_and_triton_are_used_without_the_gateway(served: Served, tmp_path: Path) -> None:
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), free_ports(3), strict=True))
    triton = served.config.triton.model_copy(update=ports)
    (tmp_path / "feature_store").symlink_to(served.config.feature_store)
    config = served.config.model_copy(update={"triton": triton}).in_folders(tmp_path / "serving")
    names: dict[str, Any] = {
        "feature_store": config.feature_store,
        "rankers": config.rankers_folder,
        "model_name": RankerSpec.read(served.challenger).model_name,
        "triton": make_channel_target(triton),
    }
    with start_triton(config.model_repository, triton, scratch=config.state / "triton"):
        deploy_rankers({"all": served.challenger}, config, state=config.state)
        for example in _examples():
            exec(compile(example, str(README), "exec"), names)
    assert len(names["features"]["history_item_ids"][0]) > 0
    with np.load(served.challenger / GOLDEN_FILE, allow_pickle=False) as golden:
        np.testing.assert_allclose(names["scores"], golden["output_score"][0], atol=1e-3)
