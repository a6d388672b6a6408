"""Settings of the serving side, in the JSON file that `REASEQ_SERVING_CONFIG` names."""

import os
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from contracts.config import Config
from contracts.config_text import check_json_keys
from contracts.errors import UserError
from contracts.events.bots import BotRuleConfig
from contracts.events.event_repeats import RepeatRuleConfig
from serving.experiments.experiment_layers import (
    ExperimentLayer,
    PlainName,
    require_control_arms,
    require_distinct_names,
)

CONFIG_ENV: Final = "REASEQ_SERVING_CONFIG"
TOKEN_ENV: Final = "REASEQ_GATEWAY_TOKEN"  # noqa: S105 - the name of a variable
SINK_ENV: Final = "REASEQ_EVENT_SINK"
"""Address of the event sink, `redis://[:password@]host:port/db`. In no file: it may hold a password."""
TRITON_PYTHON_ENV: Final = "REASEQ_TRITON_PYTHON"
"""Python of the environment that holds the Triton wheel; by default the checkout's `.venv-triton`."""
MAX_DEADLINE_MS: Final = 10_000
"""Longest `gateway.deadline_ms`: BentoML ends requests a little later, whatever they wait for."""
KEEP_ALIVE_S: Final = 75
"""How long a connection may idle: longer than a load balancer keeps one, or it would meet closed ones."""


class TritonConfig(Config):
    """The model server."""

    host: str = "127.0.0.1"
    """Where it is reached; a server that we start binds to the loopback address only."""
    http_port: int = Field(default=8000, ge=1, le=65535)
    """Health checks."""
    grpc_port: int = Field(default=8001, ge=1, le=65535)
    """Inference and model control."""
    addresses: tuple[Annotated[str, StringConstraints(pattern=r"^\d{1,3}(\.\d{1,3}){3}:\d{1,5}$")], ...] = ()
    """`ip:grpc_port` of several servers that share the requests, instead of `host` and `grpc_port`. A host
    name that stands for several (a headless service) does the same. A deployment loads its models on all."""
    metrics_port: int = Field(default=8002, ge=1, le=65535)
    """Prometheus metrics."""
    backend: Literal["python", "onnxruntime"] = "python"
    """`onnxruntime` in NVIDIA's Triton container; `python` runs ONNX Runtime inside the wheel's server."""
    repository: str | None = None
    """Where Triton reads its models, as any fsspec path (`s3://bucket/models`); default: the state folder."""
    instances: int = Field(default=1, ge=1)
    """Model instances per ranker (on each GPU, where `device` is gpu)."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where instances run; `gpu` needs the `onnxruntime` backend."""
    threads: int = Field(default=1, ge=1)
    """CPU threads per instance."""

    @model_validator(mode="after")
    def _require_backend_of_device(self) -> Self:
        if self.device == "gpu" and self.backend == "python":
            raise ValueError("device = gpu needs backend = onnxruntime: the python backend scores on the CPU")
        return self


class ExplorationConfig(Config):
    """Pages that are drawn a little, so that the log can tell what another order would have earned.

    Each shown item is logged with its propensity: the exact probability of its place, given those above it.
    """

    kind: Literal["none", "top_k", "epsilon"] = "none"
    """`top_k` draws the order of the best candidates, better ones more likely first (Plackett-Luce).
    `epsilon` gives each place now and then to a candidate drawn evenly. `none` shows the best first."""
    top_k: int = Field(default=10, ge=2, le=1000)
    """How many of the best candidates `top_k` puts in a drawn order; the rest follows by score."""
    temperature: float = Field(default=0.5, gt=0)
    """How freely `top_k` draws, in standard deviations of those candidates' scores: near 0 the best come
    first, far above 1 every order is alike."""
    epsilon: float = Field(default=0.1, gt=0, lt=1)
    """Probability with which `epsilon` draws a place."""
    min_propensity: float = Field(default=0.005, gt=0, lt=1)
    """No item is shown with a smaller propensity, so no weight of an estimate is above its inverse. `epsilon`
    draws from so few of the best remaining candidates that this holds."""
    salt: str = "1"
    """Change it to draw all pages anew. The same request id is shown the same page."""

    @model_validator(mode="after")
    def _require_possible_floor(self) -> Self:
        if self.kind == "top_k" and self.min_propensity * self.top_k > 1:
            raise ValueError(
                f"min_propensity = {self.min_propensity:g} for each of top_k = {self.top_k} candidates is "
                "more than 1 in all; lower one of them"
            )
        if self.kind == "epsilon" and self.min_propensity > self.epsilon:
            raise ValueError(
                f"min_propensity = {self.min_propensity:g} is above epsilon = {self.epsilon:g}, what all "
                "drawn candidates share; lower the first or raise the second"
            )
        return self


class GatewayConfig(Config):
    """The HTTP face."""

    host: str = "127.0.0.1"
    """Address to bind."""
    port: int = Field(default=3000, ge=1, le=65535)
    """Port to bind."""
    deadline_ms: float = Field(default=1000.0, gt=0, le=MAX_DEADLINE_MS)
    """Longest time from a request to its answer, at most 10,000; features and model share it."""
    feature_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the deadline after which the answer goes on without features."""
    max_candidates: int = Field(default=1000, ge=1)
    """Most candidates of one request."""
    max_body_bytes: int = Field(default=2 << 20, ge=1024)
    """Larger bodies are refused unread."""
    max_in_flight: int = Field(default=32, ge=1)
    """Requests under way in one worker; one more is answered 429 at once, instead of all of them late. They
    wait for each other about `max_in_flight` / (requests a second that a worker manages): keep that well
    below the deadline."""
    cached_items: int = Field(default=100_000, ge=1)
    """Items whose features are kept in memory, per embedding space."""
    cached_queries: int = Field(default=10_000, ge=1)
    """Queries and page categories whose vectors are kept in memory, per embedding space (1 KB each with the
    default one)."""
    drain_s: float = Field(default=1.0, ge=0, le=20)
    """Seconds from SIGTERM, when `/readyz` says no, to the end of listening, for load balancers to see."""
    exploration: ExplorationConfig = ExplorationConfig()
    """Which places of a page are drawn; by default none."""


class EventLogConfig(Config):
    """Where exposures and events go. The files in the state folder are always written first."""

    sink: Literal["files", "redis"] = "files"
    """`redis` also brings them to Redis streams, at the address of `REASEQ_EVENT_SINK`."""
    stream: str = Field(default="reaseq", pattern=r"^[A-Za-z0-9_.-]+$")
    """Beginning of the streams' names: `{reaseq}:exposures`, `{reaseq}:events`."""
    stream_max_entries: int | None = Field(default=None, ge=1)
    """Keep about so many entries per stream; the oldest go whether they were read or not. None keeps all."""
    # 64 GiB are 256 log files, each of which the gateway keeps open while it waits.
    max_backlog_bytes: int = Field(default=1 << 30, ge=1, le=1 << 36)
    """What may wait for a sink that is away. Beyond, events get 503 and rankings say `event_log`."""
    repeats: RepeatRuleConfig = RepeatRuleConfig()
    """Which events are one event that was sent again: it counts once in reports and in the served log."""


class ServedLogConfig(Config):
    """How the gateway's log becomes data to learn from."""

    use: bool | Literal["auto"] = "auto"
    """Learn from what was served, beside the history: `auto` where anything was, true always (it is an error
    when nothing was), false never."""
    bots: BotRuleConfig = BotRuleConfig()
    """Who is no shopper."""


class ServingConfig(Config):
    """Everything that serves. The default paths are those of the Kubernetes base."""

    state: Path = Path("/var/lib/reaseq/serving")
    """Folder of the model repository, the deployed rankers, the routes and the event log."""
    feature_store: Path = Path("/var/lib/reaseq/feature_store")
    """Folder of the feature store (where `feature_store.yaml` lies)."""
    experiment: PlainName = "ranker"
    """Name of the experiment; with the salt it decides who falls into which arm."""
    salt: str = "1"
    """Change it to draw the arms anew."""
    shares: dict[PlainName, float] | None = None
    """Arm -> share of the users; equal shares when not given."""
    layers: dict[PlainName, ExperimentLayer] = {}
    """Other experiments on the same users: the gateway assigns, answers and logs their arms."""
    holdout: float = Field(default=0, ge=0, lt=1)
    """Share of the users that see the arm `control` in every experiment; left out of the lift."""
    triton: TritonConfig = TritonConfig()
    gateway: GatewayConfig = GatewayConfig()
    event_log: EventLogConfig = EventLogConfig()

    @model_validator(mode="after")
    def _require_sound_experiments(self) -> Self:
        require_distinct_names(self.experiment, self.layers)
        if self.holdout:
            require_control_arms({name: layer.shares for name, layer in self.layers.items()})
        return self

    @classmethod
    def from_environment(cls) -> Self:
        """Reads the config file that `REASEQ_SERVING_CONFIG` names.

        Raises:
            UserError: the variable is not set, or the file does not hold a valid config.
        """
        config_path = os.environ.get(CONFIG_ENV)
        if not config_path:
            raise UserError(f"{CONFIG_ENV} is not set; it must name the serving config, a JSON file.")
        try:
            text = Path(config_path).read_text(encoding="utf-8")
            check_json_keys(text, origin=f"{CONFIG_ENV}={config_path}")
            return cls.model_validate_json(text)
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise UserError(f"{CONFIG_ENV}={config_path} is not a serving config: {error}") from error

    def in_folders(self, state: Path, feature_store: Path | None = None) -> Self:
        """The same settings for other folders; the feature store lies beside `state` unless given."""
        store_folder = feature_store or state.parent / "feature_store"
        return self.model_copy(update={"state": state.resolve(), "feature_store": store_folder.resolve()})

    @property
    def model_repository(self) -> Path:
        """Triton's model repository."""
        return self.state / "models"

    @property
    def rankers_folder(self) -> Path:
        """Spec and vocabularies of each deployed ranker, which the gateway encodes requests with."""
        return self.state / "rankers"

    @property
    def event_log_folder(self) -> Path:
        """The durable log of exposures and events."""
        return self.state / "events"
