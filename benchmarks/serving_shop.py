"""A generated shop, really served: features in Redis, rankers in Triton, gateways, events on to another Redis."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.serving_inputs import HISTORY, ShopSize, write_inputs, write_ranker
from benchmarks.serving_redis import HOST, RedisServer, free_ports
from feature_repo.build import build_features
from feature_repo.config import FeatureConfig
from feature_repo.materialize import materialize_features
from serving.config import SINK_ENV, EventLogConfig, GatewayConfig, ServingConfig, TritonConfig
from serving.deploy import deploy_rankers, load_routed
from serving.local import start_gateway
from serving.processes import ServerProcess
from serving.triton_server import TritonServer

REDIS_ENV: Final = "REASEQ_REDIS"
FEATURES: Final = FeatureConfig(online_store="redis", history_length=HISTORY)


class ServedShop:
    """The servers; each part can be killed and started again."""

    def __init__(
        self, config: ServingConfig, *, redis: RedisServer, sink: RedisServer, size: ShopSize, rankers: tuple[Path, ...]
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
        self.triton = TritonServer(config.models, config.triton, scratch=config.state / "triton")
        self.gateways: dict[int, ServerProcess] = {}
        """Port -> gateway."""

    def start_triton(self) -> None:
        """Starts Triton again, with the deployed rankers."""
        self.triton.start()
        load_routed(self.config)

    def kill_triton(self) -> None:
        """Ends Triton at once."""
        assert self.triton.pid is not None
        os.killpg(self.triton.pid, signal.SIGKILL)
        self.triton.stop()

    def start_gateways(self, *ports: int) -> None:
        """Starts gateways at once and waits until they are ready."""
        for port in ports:
            gateway = self.config.gateway.model_copy(update={"port": port})
            self.gateways[port] = start_gateway(self.config.model_copy(update={"gateway": gateway}))
        for port in ports:
            self.gateways[port].wait_ready(self.config.gateway.start_timeout_s)

    def kill_gateway(self, port: int) -> None:
        """Ends a gateway at once."""
        self.gateways.pop(port).kill()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each gateway."""
        return [(HOST, port) for port in list(self.gateways)]

    @property
    def pids(self) -> list[int]:
        """Of Triton and the gateways, as far as they run."""
        found = [self.triton.pid, *(gateway.pid for gateway in self.gateways.values())]
        return [pid for pid in found if pid is not None]

    def close(self) -> None:
        """Ends Triton and all gateways."""
        for gateway in self.gateways.values():
            gateway.stop()
        self.triton.stop()


@contextlib.contextmanager
def serve_shop(root: Path, size: ShopSize, *, gateways: int = 1, **options: Any) -> Iterator[ServedShop]:
    """Generates, materializes, deploys and serves a shop; the servers end with the context.

    Args:
        root: an empty folder.
        size: how much is generated.
        gateways: how many run.
        options: of `GatewayConfig`.
    """
    inputs = write_inputs(root, size)
    rankers = tuple(root / f"ranker_{seed}" for seed in range(2))
    for seed, ranker in enumerate(rankers):
        write_ranker(inputs[0], ranker, seed=seed)
    build_features(*inputs, FEATURES, out=root / "features")
    ports = free_ports(3 + gateways)
    triton = TritonConfig(http_port=ports[0], grpc_port=ports[1], metrics_port=ports[2])
    log = EventLogConfig(sink="redis")
    config = ServingConfig(triton=triton, gateway=GatewayConfig(**options), event_log=log)
    config = config.at(root / "serving", root / "feature_store")
    with RedisServer(root / "redis") as redis, RedisServer(root / "sink", durable=True) as sink:
        os.environ |= {REDIS_ENV: redis.address, SINK_ENV: f"redis://{sink.address}/0"}
        materialize_features(root / "features", FEATURES, store=config.feature_store)
        redis.save()
        shop = ServedShop(config, redis=redis, sink=sink, size=size, rankers=rankers)
        with contextlib.closing(shop):
            shop.triton.start()
            deploy_rankers({"control": rankers[0]}, config, state=config.state)
            shop.start_gateways(*ports[3:])
            yield shop
