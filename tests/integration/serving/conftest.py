"""A served sample shop: features in SQLite, two real (untrained) rankers, free loopback ports."""

import pytest
from served_shop import Served, free_ports, write_ranker

from contracts.errors import UserError
from feature_repo.config import FeatureStoreConfig as StoreConfig
from feature_repo.make_sample import write_sample_inputs
from feature_repo.offline.build_features import build_features
from feature_repo.online.materialize_features import materialize_features
from models.ranker.config import IDS_ONLY, RankerConfig
from serving.config import GatewayConfig, ServingConfig, TritonConfig
from serving.triton.triton_server import find_triton_wheel


@pytest.fixture(scope="session")
def triton_environment() -> None:
    try:
        find_triton_wheel()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, triton_environment: None) -> Served:
    root = tmp_path_factory.mktemp("served")
    inputs = write_sample_inputs(root)
    build_features(*inputs, StoreConfig(), out=root / "features")
    materialize_features(root / "features", StoreConfig(), store=root / "feature_store")
    ports = iter(free_ports(4))
    triton = TritonConfig(http_port=next(ports), grpc_port=next(ports), metrics_port=next(ports))
    gateway = GatewayConfig(port=next(ports), deadline_ms=5000)
    config = ServingConfig(triton=triton, gateway=gateway).in_folders(
        root / "serving", root / "feature_store"
    )
    write_ranker(RankerConfig(dim=8), inputs[0], root / "challenger")
    write_ranker(RankerConfig(dim=8, features=IDS_ONLY), inputs[0], root / "baseline")
    return Served(config, root / "challenger", root / "baseline")
