"""Settings of the serving side. The gateway reads them from the JSON file named by `REASEQ_SERVING_CONFIG`."""

import os
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from contracts.config import Config
from contracts.errors import UserError
from serving.experiments import Layer, Name, require_controls, require_independent

CONFIG_ENV: Final = "REASEQ_SERVING_CONFIG"
TOKEN_ENV: Final = "REASEQ_GATEWAY_TOKEN"  # noqa: S105 - the name of a variable
SINK_ENV: Final = "REASEQ_EVENT_SINK"
"""Address of the event sink, `redis://[:password@]host:port/db`: it may hold a password and stands in no file."""
TRITON_PYTHON_ENV: Final = "REASEQ_TRITON_PYTHON"
MAX_DEADLINE_MS: Final = 10_000
"""Longest `gateway.deadline_ms`: BentoML ends requests a little later, whatever they wait for."""


class TritonConfig(Config):
    """The model server."""

    host: str = "127.0.0.1"
    """Where it is reached; a server that we start binds to the loopback address only."""
    http_port: int = Field(default=8000, ge=1, le=65535)
    """Health checks."""
    grpc_port: int = Field(default=8001, ge=1, le=65535)
    """Inference and model control."""
    addresses: tuple[Annotated[str, StringConstraints(pattern=r"^\d{1,3}(\.\d{1,3}){3}:\d{1,5}$")], ...] = ()
    """`ip:grpc_port` of several servers that share the requests, instead of `host` and `grpc_port`; each deployment
    loads its models on all of them. A host name that stands for several servers (a headless service) shares as well,
    but a deployment reaches only one of those."""
    metrics_port: int = Field(default=8002, ge=1, le=65535)
    """Prometheus metrics."""
    backend: Literal["python", "onnxruntime"] = "python"
    """`onnxruntime` in production's Triton container; `python` runs ONNX Runtime inside the wheel's server."""
    repository: str | None = None
    """Where Triton reads its models, as any fsspec path (`s3://bucket/models`), if not from the state folder."""
    python: Path | None = None
    """Python of the environment that holds the Triton wheel; default: `$REASEQ_TRITON_PYTHON`, then the
    checkout's `.venv-triton`."""
    instances: int = Field(default=1, ge=1)
    """Model instances per ranker (on each GPU, where `device` is gpu)."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where instances run; `gpu` needs the `onnxruntime` backend."""
    threads: int = Field(default=1, ge=1)
    """CPU threads per instance."""
    max_batch_size: int = Field(default=64, ge=1)
    """Requests that Triton may score together."""
    max_queue_delay_us: int = Field(default=0, ge=0, le=100_000)
    """How long a request may wait for others of its shape, microseconds. 0: only those that wait anyway are joined,
    which was fastest on CPUs."""
    start_timeout_s: float = Field(default=120.0, gt=0)
    """Longest wait for a server that we start, and for a model to load."""

    @model_validator(mode="after")
    def _gpu_needs_its_backend(self) -> Self:
        if self.device == "gpu" and self.backend == "python":
            raise ValueError("device = gpu needs backend = onnxruntime: the python backend scores on the CPU")
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
    max_events: int = Field(default=1000, ge=1)
    """Most events of one post."""
    max_body_bytes: int = Field(default=2 << 20, ge=1024)
    """Larger bodies are refused unread."""
    stream_events: bool = True
    """Let posted events enter the users' online histories at once, so that they change the next ranking."""
    max_in_flight: int = Field(default=32, ge=1)
    """Requests under way in one worker; one more is answered 429 at once, instead of all of them late. They wait for
    each other about `max_in_flight` / (requests a second that a worker manages): keep that well below the deadline."""
    keep_alive_s: int = Field(default=75, ge=1)
    """How long a connection may idle; longer than a load balancer keeps one, or it meets closed ones."""
    cached_items: int = Field(default=100_000, ge=1)
    """Items whose features are kept in memory, per embedding space."""
    start_timeout_s: float = Field(default=180.0, gt=0)
    """Longest wait for a gateway that we start."""
    drain_s: float = Field(default=1.0, ge=0, le=20)
    """Seconds between SIGTERM, when `/readyz` says no, and the end of listening: time for a load balancer to see it."""


_MAX_WAITING_FILES: Final = 256


class EventLogConfig(Config):
    """Where exposures and events go. The files in the state folder are always written first."""

    sink: Literal["files", "redis"] = "files"
    """`redis` also brings them to Redis streams, at the address of `REASEQ_EVENT_SINK`."""
    stream: str = Field(default="reaseq", pattern=r"^[A-Za-z0-9_.-]+$")
    """Beginning of the streams' names: `{reaseq}:exposures`, `{reaseq}:events`."""
    stream_max_entries: int | None = Field(default=None, ge=1)
    """Keep about so many entries per stream; the oldest go whether they were read or not. None keeps all."""
    max_file_bytes: int = Field(default=1 << 28, ge=1 << 20)
    """A file of this size is followed by a new one, so that old ones can be moved away while the gateway runs."""
    max_backlog_bytes: int = Field(default=1 << 30, ge=1)
    """What may wait for a sink that is away; beyond it, events are answered 503 and rankings say `event_log`."""
    send_every_ms: float = Field(default=20.0, ge=0, le=10_000)
    """Records are gathered so long before they are sent to the sink together."""
    exposure_sync_ms: float = Field(default=50.0, ge=1, le=10_000)
    """An exposure is written before the answer and on the disk so much later; a loss of power costs at most that.
    Events are on the disk before they are acknowledged."""

    @model_validator(mode="after")
    def _keeps_few_files_open(self) -> Self:
        if self.max_backlog_bytes > _MAX_WAITING_FILES * self.max_file_bytes:
            raise ValueError(
                f"a backlog of {self.max_backlog_bytes} bytes would lie in more than {_MAX_WAITING_FILES} open files "
                f"of {self.max_file_bytes}; raise max_file_bytes, or lower max_backlog_bytes"
            )
        return self


class ServingConfig(Config):
    """Everything that serves. The default paths are those of the Kubernetes base."""

    state: Path = Path("/var/lib/reaseq/serving")
    """Folder of the model repository, the deployed rankers, the routes and the event log."""
    feature_store: Path = Path("/var/lib/reaseq/feature_store")
    """Folder of the feature store (where `feature_store.yaml` lies)."""
    experiment: str = Field(default="ranker", pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the experiment; with the salt it decides who falls into which arm."""
    salt: str = "1"
    """Change it to draw the arms anew."""
    shares: dict[str, float] | None = None
    """Arm -> share of the users; equal shares when not given."""
    layers: dict[Name, Layer] = {}
    """Other experiments on the same users, which the gateway assigns, answers and logs; they split independently."""
    holdout: float = Field(default=0, ge=0, lt=1)
    """Share of the users that see the arm `control` in every experiment, whatever is tried; left out of the lift."""
    triton: TritonConfig = TritonConfig()
    gateway: GatewayConfig = GatewayConfig()
    event_log: EventLogConfig = EventLogConfig()

    @model_validator(mode="after")
    def _experiments_are_sound(self) -> Self:
        require_independent(self.experiment, self.layers)
        if self.holdout:
            require_controls({name: layer.shares for name, layer in self.layers.items()})
        return self

    @classmethod
    def from_environment(cls) -> Self:
        """Reads the config file that `REASEQ_SERVING_CONFIG` names.

        Raises:
            UserError: the variable is not set, or the file does not hold a valid config.
        """
        name = os.environ.get(CONFIG_ENV)
        if not name:
            raise UserError(f"{CONFIG_ENV} is not set; it must name the serving config, a JSON file.")
        try:
            return cls.model_validate_json(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise UserError(f"{CONFIG_ENV}={name} is not a serving config: {error}") from error

    def at(self, state: Path, feature_store: Path | None = None) -> Self:
        """The same settings for other folders; the feature store lies beside `state` unless given."""
        store = feature_store or state.parent / "feature_store"
        return self.model_copy(update={"state": state.resolve(), "feature_store": store.resolve()})

    @property
    def models(self) -> Path:
        """Triton's model repository."""
        return self.state / "models"

    @property
    def rankers(self) -> Path:
        """Spec and vocabularies of each deployed ranker, which the gateway encodes requests with."""
        return self.state / "rankers"

    @property
    def events(self) -> Path:
        """The durable log of exposures and events."""
        return self.state / "events"
