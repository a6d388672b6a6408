"""A generated shop, really served: features in Redis, rankers in Triton, gateways, an event sink."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.serving.generated_inputs import HISTORY, ShopSize, write_ranker, write_shop_inputs
from benchmarks.serving.load_generator import Client
from benchmarks.serving.redis_server import HOST, RedisServer, find_free_ports
from feature_repo.config import FeatureStoreConfig
from feature_repo.offline.build_features import build_features
from feature_repo.online.materialize_features import materialize_features
from serving.config import SINK_ENV, EventLogConfig, GatewayConfig, ServingConfig, TritonConfig
from serving.deployment.deploy_rankers import deploy_rankers, load_routed_models
from serving.deployment.local_stack import start_gateway
from serving.deployment.server_processes import ServerProcess
from serving.triton.triton_server import start_triton

REDIS_ENV: Final = "REASEQ_REDIS"
FEATURES: Final = FeatureStoreConfig(online_store="redis", history_length=HISTORY)


class ServedShop:
    """The servers; each part can be killed and started again."""

    def __init__(
        self,
        config: ServingConfig,
        *,
        redis: RedisServer,
        sink: RedisServer,
        size: ShopSize,
        rankers: tuple[Path, ...],
    ) -> None:
        """Prepares Triton and gateways, does not start them."""
        self.config = config
        self.redis = redis
        """The feature store's."""
        self.sink = sink
        """Takes the event log as streams."""
        self.size = size
        self.rankers = rankers
        """Ranker artifacts; the first one is deployed."""
        self.triton: ServerProcess | None = None
        self.gateways: dict[int, ServerProcess] = {}
        """Port -> gateway."""

    def launch_triton(self) -> None:
        """Starts Triton without a model."""
        scratch = self.config.state / "triton"
        self.triton = start_triton(self.config.model_repository, self.config.triton, scratch=scratch)

    def start_triton(self) -> None:
        """Starts Triton again, with the deployed rankers."""
        self.launch_triton()
        load_routed_models(self.config)

    def kill_triton(self) -> None:
        """Ends Triton at once."""
        assert self.triton is not None
        self.triton.kill()
        self.triton = None

    def start_gateways(self, *ports: int) -> None:
        """Starts gateways at once and waits until they are ready."""
        for port in ports:
            gateway_config = self.config.gateway.model_copy(update={"port": port})
            self.gateways[port] = start_gateway(self.config.model_copy(update={"gateway": gateway_config}))
        for port in ports:
            self.gateways[port].wait_ready()

    def kill_gateway(self, port: int) -> None:
        """Ends a gateway at once."""
        self.gateways.pop(port).kill()

    @property
    def gateway_addresses(self) -> list[tuple[str, int]]:
        """Host and port of each gateway."""
        return [(HOST, port) for port in list(self.gateways)]

    def open_client(self) -> Client:
        """A client of all gateways that run."""
        return Client(lambda: self.gateway_addresses, timeout_s=10)

    @property
    def server_pids(self) -> list[int]:
        """Process ids of Triton and the gateways, as far as they run."""
        running_servers = [*([self.triton] if self.triton else []), *self.gateways.values()]
        return [server.pid for server in running_servers]

    def close(self) -> None:
        """Ends Triton and all gateways."""
        for gateway in self.gateways.values():
            gateway.stop()
        if self.triton is not None:
            self.triton.stop()


@contextlib.contextmanager
def serve_generated_shop(
    root: Path, size: ShopSize, *, gateways: int = 1, **options: Any
) -> Iterator[ServedShop]:
    """Generates, materializes, deploys and serves a shop; the servers end with the context.

    Args:
        root: an empty folder.
        size: how much is generated.
        gateways: how many run.
        options: of `GatewayConfig`.
    """
    input_folders = write_shop_inputs(root, size)
    ranker_folders = tuple(root / f"ranker_{seed}" for seed in range(2))
    for seed, ranker in enumerate(ranker_folders):
        write_ranker(input_folders[0], ranker, seed=seed)
    build_features(*input_folders, FEATURES, out=root / "features")
    free_ports = find_free_ports(3 + gateways)
    triton_config = TritonConfig(http_port=free_ports[0], grpc_port=free_ports[1], metrics_port=free_ports[2])
    event_log = EventLogConfig(sink="redis")
    config = ServingConfig(triton=triton_config, gateway=GatewayConfig(**options), event_log=event_log)
    config = config.in_folders(root / "serving", root / "feature_store")
    with RedisServer(root / "redis") as redis, RedisServer(root / "sink", durable=True) as sink_redis:
        os.environ |= {REDIS_ENV: redis.address, SINK_ENV: f"redis://{sink_redis.address}/0"}
        materialize_features(root / "features", FEATURES, store=config.feature_store)
        redis.client.save()
        shop = ServedShop(config, redis=redis, sink=sink_redis, size=size, rankers=ranker_folders)
        with contextlib.closing(shop):
            shop.launch_triton()
            deploy_rankers({"control": ranker_folders[0]}, config, state=config.state)
            shop.start_gateways(*free_ports[3:])
            yield shop
